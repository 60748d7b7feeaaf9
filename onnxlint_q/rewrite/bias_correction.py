"""Biases shifted so that the mean of a quantised layer is that of the float one.

Rounding a weight adds the same error to a channel in every sample: with `w' = w + e` its result is off by `e E[x]` in
the mean, and noise that does not average out grows from layer to layer. `b' = b + E[y] - E[y']` takes the mean of that
error away, channel by channel (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
arXiv 1906.04721, section 4.2). The shifts are measured on samples in `execute/correction`.

The float model changes with it, and so does the file under any other scheme: a shift belongs to the recipe that it was
measured for, and is no rewrite of the float model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.errors import UsageError
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.layers import channel_vector
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit

Shifts = Mapping[str, npt.NDArray[np.float64]]
"""By layer what is added to its result, one value an output channel."""


@dataclass(frozen=True, slots=True)
class BiasPlace(Candidate):
    """A layer with a place for a constant that moves its result channel by channel.

    Attributes:
        result: key of the tensor that the constant moves.
        axis: where its channels are.
        node: key of the result of the node that adds the constant.
        slot: which input of that node it is.
        factor: what the node multiplies the constant by.
        channels: how many there are.
    """

    result: str
    axis: int
    node: str
    slot: int
    factor: float
    channels: int

    @property
    def change(self) -> str:
        """What becomes other there."""
        return "its bias takes up the mean error of the quantised layer"


def bias_places(measured: Measured) -> Iterator[BiasPlace | Refusal]:
    """Where the bias of each layer can be shifted, or why it cannot, in data order."""
    for layer in measured.layers:
        place = _place(measured.model, layer.folded)
        yield Refusal(layer.output, place) if isinstance(place, str) else place


def _place(model: Model, folded: FoldedLayer) -> BiasPlace | str:
    layer, node = folded.layer, folded.layer.node
    if not layer.is_product or not layer.is_float:
        return "its biases are inside the operator"
    if node.graph != ROOT:
        return "it stands in a subgraph"
    if folded.after is not None:
        norm = folded.after.node
        return BiasPlace(folded.output, norm.output, 1, norm.output, 2, 1.0, layer.channels)
    if layer.inputs.product is Product.MATMUL:
        return _behind(model, folded)
    factor = node.float("beta", 1.0) if layer.inputs.product is Product.GEMM else 1.0
    if factor == 0:
        return "the operator multiplies its bias by 0"
    if layer.bias and channel_vector(model, layer.bias, layer.channels) is None:
        return "its bias is not a constant with one value a channel"
    assert layer.inputs.bias is not None
    return BiasPlace(folded.output, folded.output, 1, folded.output, layer.inputs.bias, factor, layer.channels)


def _behind(model: Model, folded: FoldedLayer) -> BiasPlace | str:
    """A MatMul has no bias: it is the constant of the Add that alone reads the product."""
    layer = folded.layer
    add = model.sole_consumer(layer.output)
    if layer.weight_left or add is None or not _adds_vector(model, add, layer.output, layer.channels):
        return "nothing adds a bias to the product"
    slot = 1 - add.inputs.index(layer.output)
    return BiasPlace(folded.output, add.output, -1, add.output, slot, 1.0, layer.channels)


def _adds_vector(model: Model, node: Node, product: str, channels: int) -> bool:
    if node.op_type != "Add" or not node.is_standard or len(set(node.inputs)) != 2:
        return False
    (other,) = set(node.inputs) - {product}
    return channel_vector(model, other, channels) is not None


def corrected(measured: Measured, shifts: Shifts) -> Model:
    """A copy of the model with the biases of these layers shifted; a layer without a bias gets one.

    Raises:
        UsageError: the model has no such layer, or one with another number of channels.
    """
    places = {place.tensor: place for place in bias_places(measured) if isinstance(place, BiasPlace)}
    edit = Edit(measured.model)
    for layer, shift in shifts.items():
        place = places.get(layer)
        if place is None or place.channels != shift.size:
            raise UsageError(f"no layer {layer!r} with {shift.size} biases in the model: the shifts are of another one")
        _shift(edit, measured, place, shift / place.factor)
    return edit.done()


def _shift(edit: Edit, measured: Measured, place: BiasPlace, shift: npt.NDArray[np.float64]) -> None:
    constants, adds = measured.model.constants, measured.model.producer(place.node)
    assert adds is not None
    key = adds.input(place.slot)
    weight = constants[measured.layer_by_output[place.tensor].folded.layer.weight]
    old = np.asarray(constants[key]) if key else np.zeros(place.channels, weight.dtype)
    wide = np.broadcast_to(old, (*old.shape[:-1], place.channels))
    edit.replace_constant(place.node, place.slot, (wide + shift).astype(old.dtype), "shifted")
