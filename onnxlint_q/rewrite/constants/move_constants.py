"""A constant channel that sets the range of an activation: its value moves into the layers that read it.

Where the weights of channel `c` of a layer are zero, the layer gives one value `v_c` there, whatever its input; samples
show which, behind a Relu or Clip too. Where layers without padding are all that read it,

    v_c' = v_c - d,        b_j' = b_j + d sum_taps w_jc

leave what they give as it is for every `d`. It is done to values outside the range of the other channels, where that is
a tenth narrower without them. They move to the value next to zero that the other channels have, which a Relu or Clip
behind the layer leaves as it is; the scale of the activation is then that of the channels that vary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import scale_inputs
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.graph import Layer, Model, Node, find_layers
from onnxlint_q.graph.operators import Product
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.constants.observed_constants import Mask, cannot_hold, outside
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MovableConstants(Candidate):
    """A layer with constant channels beyond the range of the others.

    Attributes:
        channels: output channels.
        values: what they are to hold.
        moved: what each held more than that, which goes into the biases.
        readers: keys of the operators that take it up.
        narrowed: what the range of the activation keeps of its width.
    """

    channels: tuple[int, ...]
    values: tuple[float, ...]
    moved: tuple[float, ...]
    readers: tuple[str, ...]
    narrowed: float

    @property
    def change(self) -> str:
        """In words."""
        channels = (
            f"{len(self.channels)} constant channels move" if len(self.channels) > 1 else "1 constant channel moves"
        )
        return f"{channels} into the bias of the next layer, and the range keeps {self.narrowed:.0%} of its width"


def find(measured: Measured, observations: Observations | None) -> Iterator[MovableConstants | Refusal]:
    """Layers with constant channels that widen the range of their activation, as the samples show it."""
    if observations is None:
        return
    readers = {layer.folded.layer.node: layer for layer in measured.layers}
    for layer in measured.layers:
        part = layer.folded.layer
        observed = observations.tensors.get(measured.stored_tensor(layer))
        if observed is None or observed.channels is None or not observed.is_finite or layer.weight.non_finite:
            continue
        seen, constant = observed.channels, layer.weight.absmax == 0
        if seen.low.size == part.channels and _multiplies(part) and constant.any() and not constant.all():
            found = _candidate(measured, layer, seen, constant, readers)
            if found is not None:
                yield found


def _multiplies(part: Layer) -> bool:
    return part.is_product and part.is_float and not part.weight_left


def _candidate(
    measured: Measured,
    layer: LayerFacts,
    seen: ChannelObservation,
    constant: Mask,
    readers: Mapping[Node, LayerFacts],
) -> MovableConstants | Refusal | None:
    """The rewrite of one layer, why there is none, or None where its constant channels widen nothing."""
    beyond, narrowed = outside(seen, constant)
    if not beyond.any():
        return None
    stored = measured.stored_tensor(layer)
    if stored in measured.model.output_names:
        return Refusal(layer.output, "an output of the model holds its constant channels")
    if reason := cannot_hold(measured.model, layer):
        return Refusal(layer.output, f"its constant channels set the range, but {reason}")
    found = []
    for node in measured.model.consumers(stored):
        if reason := _cannot_take_up(measured.model, readers.get(node), stored):
            return Refusal(layer.output, f"{node.op_type} {node.label!r} reads its constant channels, and {reason}")
        found.append(node.output)
    channels = np.flatnonzero(beyond)
    value = float(np.clip(0.0, seen.low[~constant].min(), seen.high[~constant].max()))
    moved = (seen.low + seen.high)[channels] / 2 - value
    values = (value,) * channels.size
    return MovableConstants(
        layer.output, tuple(map(int, channels)), values, tuple(moved.tolist()), tuple(found), narrowed
    )


def _cannot_take_up(model: Model, layer: LayerFacts | None, tensor: str) -> str:
    """Why a reader cannot take up what a channel has everywhere, half a sentence; empty where it can."""
    if layer is None or layer.folded.layer.input != tensor or not _multiplies(layer.folded.layer):
        return "it has no weight to take them up"
    part = layer.folded.layer
    if part.pads:
        return "it puts zeros around them"
    if part.inputs.product is Product.TRANSPOSED or part.node.int("transA", 0):
        return "it does not multiply them by the same weights everywhere"
    return cannot_hold(model, layer)


def apply(model: Model, wanted: Sequence[MovableConstants]) -> Model:
    """A copy of the model with these values moved."""
    layers = {layer.output: layer for layer in find_layers(model)}
    biases: dict[str, Vector] = {}

    def bias(layer: Layer) -> Vector:
        """That of a layer as it is by now: it may take up what comes in and lose what goes on."""
        if layer.output not in biases:
            stored = layer.read_bias(model)
            assert stored is not None
            biases[layer.output] = stored.copy()
        return biases[layer.output]

    for one in wanted:
        layer, index = layers[one.tensor], list(one.channels)
        bias(layer)[index] = one.values
        moved = np.zeros(layer.channels)
        moved[index] = one.moved
        for key in one.readers:
            reader = layers[key]
            taken = scale_inputs(reader, reader.read_weight(model), moved * reader.factor)
            bias(reader)[...] += reader.by_channel(taken).sum(axis=1, dtype=np.float64)
    edit = Edit(model)
    for key, values in biases.items():
        layer = layers[key]
        assert layer.inputs.bias is not None
        dtype = model.constants[layer.weight].dtype
        edit.replace_constant(key, layer.inputs.bias, values.astype(dtype), "moved")
    return edit.done()


REWRITE = Rewrite(
    name="move-constants",
    what="constant channels moved into the bias of the next layer",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
)
