"""Outlier channels of a normalisation: their factor moves from its gain into the layers that read it.

A normalisation ends in `t_c = gain_c n_c + shift_c`. Where a layer `y_j = sum_c t_c w_cj` is all that reads it,

    t_c' = t_c / s_c,        w_cj' = s_c w_cj

leave `y` what it is for any `s_c > 0` (Xiao et al., SmoothQuant, arXiv 2211.10438, eq. 3). One scale for `t'` is then
as fine as the widest channel that is left asks for, and one for `w'` as coarse as its widest row. The strength `a` in
`s_c = r_c^a`, with `r_c` the range of an outlier over the widest of the other channels, is chosen for the smallest sum
of both at the results of the layers,

    step(t')² / 12 sum_cj w_cj'²  +  step(w')² / 12 J sum_c E[t_c'²],

with `E[t_c²]` taken as a twelfth of the squared range. Powers of two for `s_c` make it exact but for what underflows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import ChannelObservation
from onnxlint_q.graph import Layer, Model, Node, Trait, find_layers
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product
from onnxlint_q.graph.tensors import Array
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit

Vector = npt.NDArray[np.float64]

Gains = tuple[tuple[str, int], ...]
"""Constants, one value a channel: output of the node that reads each, and the slot of its input."""

NAME = "channel-factors"
OTHER_CHANNELS = "the layers that read it have other channels than it has"
_STRENGTHS = (0.25, 0.5, 0.75, 1.0)
# Where a normalisation keeps its gain and its shift.
_GAINS: Mapping[str, tuple[int, ...]] = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}
_INT8_STEPS, _UINT8_STEPS = 127.0, 255.0


@dataclass(frozen=True, slots=True)
class ChannelFactors(Candidate):
    """A normalisation whose outlier channels can be divided, and the layers that multiply them again.

    Attributes:
        gains: what is divided.
        readers: keys of the layers that are multiplied.
        channels: the outlier channels.
        factors: what each of them is divided by; powers of two.
    """

    gains: Gains
    readers: tuple[str, ...]
    channels: tuple[int, ...]
    factors: tuple[float, ...]

    @property
    def touched(self) -> frozenset[str]:
        """Tensors that hold other values than before."""
        return frozenset((self.tensor, *(output for output, _ in self.gains)))


def movable_factors(
    measured: Measured, tensor: str, channels: Sequence[int], seen: ChannelObservation
) -> ChannelFactors | Refusal:
    """The rewrite for the outlier channels of one activation, where it can be applied.

    Args:
        measured: the network.
        tensor: the activation.
        channels: its outlier channels.
        seen: the smallest and largest value of each of its channels.
    """
    place = _place(measured, tensor)
    if isinstance(place, Refusal):
        return place
    gains, readers = place
    weights = [_by_input(measured.model, layer) for layer in readers]
    if any(weight.shape[0] != seen.low.size for weight in weights):
        return Refusal(tensor, OTHER_CHANNELS)
    if not all(np.isfinite(weight).all() for weight in weights):
        return Refusal(tensor, "a weight that reads it is not finite")
    factors = _best_factors(channels, seen, weights)
    if factors is None:
        return Refusal(tensor, "the weights that read it would lose as much as it gains")
    return ChannelFactors(tensor, gains, tuple(layer.output for layer in readers), tuple(channels), factors)


def moved_by(
    measured: Measured, tensor: str, channels: Sequence[int], factors: Sequence[float]
) -> ChannelFactors | Refusal:
    """The rewrite with given factors, where it can be applied.

    Args:
        measured: the network.
        tensor: the activation.
        channels: those that are divided.
        factors: what each of them is divided by.
    """
    place = _place(measured, tensor)
    if isinstance(place, Refusal):
        return place
    gains, readers = place
    return ChannelFactors(tensor, gains, tuple(layer.output for layer in readers), tuple(channels), tuple(factors))


def _place(measured: Measured, tensor: str) -> tuple[Gains, tuple[Layer, ...]] | Refusal:
    """The gains that make a tensor, and the layers that read it; else why nothing can move."""
    gains = tuple(_gains(measured.model, tensor))
    if not gains:
        return Refusal(tensor, "its channels get their size from no constant gain")
    readers = _readers(measured, tensor)
    if isinstance(readers, Refusal):
        return readers
    sizes = {_gain(measured.model, *gain).size for gain in gains}
    sizes |= {layer.weight_shape[_input_axis(layer)] for layer in readers}
    return (gains, readers) if len(sizes) == 1 else Refusal(tensor, OTHER_CHANNELS)


def apply(model: Model, wanted: Iterable[ChannelFactors]) -> Model:
    """A copy of the model with all these factors moved."""
    edit = Edit(model)
    layers = {layer.output: layer for layer in find_layers(model)}
    for one in wanted:
        index, factors = list(one.channels), np.asarray(one.factors)
        for output, slot in one.gains:
            gain = _gain(model, output, slot).astype(np.float64)
            gain[..., index] /= factors
            edit.replace_constant(output, slot, gain, "scaled")
        for key in one.readers:
            layer = layers[key]
            weight = np.moveaxis(model.constants[layer.weight].astype(np.float64), _input_axis(layer), 0)
            weight[index] *= factors.reshape(-1, *(1,) * (weight.ndim - 1))
            weight = np.moveaxis(weight, 0, _input_axis(layer))
            edit.replace_constant(key, layer.inputs.weight, weight, "scaled")
    return edit.done()


def scaled(seen: ChannelObservation, wanted: ChannelFactors) -> ChannelObservation:
    """What is seen of the tensor's channels behind the rewrite."""
    divisor = np.ones(seen.low.size)
    divisor[list(wanted.channels)] = wanted.factors
    return ChannelObservation(seen.low / divisor, seen.high / divisor)


def _gains(model: Model, tensor: str) -> Iterator[tuple[str, int]]:
    """The constants, one value a channel, that a tensor is proportional to; empty where it is to none."""
    node = model.producer(tensor)
    if node is None or node.graph != ROOT or node.output != tensor:
        return
    slots = _GAINS.get(node.op_type, ())
    if slots:
        present = [slot for slot in slots if node.input(slot)]
        if slots[0] in present and all(_fits(model, node.input(slot)) for slot in present):
            yield from ((tensor, slot) for slot in present)
        return
    shift = _constant_slot(model, node) if node.operator.has(Trait.ADDS) else None
    if shift is None:
        gain = _constant_slot(model, node) if node.op_type == "Mul" else None
        if gain is not None:
            yield tensor, gain
        return
    before = node.input(1 - shift)
    product = model.producer(before)
    gain = _constant_slot(model, product) if product is not None and product.op_type == "Mul" else None
    if product is not None and gain is not None and model.sole_consumer(before) is node and product.graph == ROOT:
        yield tensor, shift
        yield before, gain


def _constant_slot(model: Model, node: Node) -> int | None:
    """The slot of the one constant of two operands, where that has one value a channel."""
    if len(node.inputs) != 2:
        return None
    slots = [slot for slot in (0, 1) if model.is_constant(node.input(slot))]
    return slots[0] if len(slots) == 1 and _fits(model, node.input(slots[0])) else None


def _fits(model: Model, key: str) -> bool:
    """Whether a constant holds one float a channel along its last axis."""
    value = model.constant(key) if key else None
    return value is not None and value.ndim > 0 and 1 < value.size == value.shape[-1] and value.dtype.kind == "f"


def _gain(model: Model, output: str, slot: int) -> Array:
    return model.constants[_node(model, output).input(slot)]


def _readers(measured: Measured, tensor: str) -> tuple[Layer, ...] | Refusal:
    """The matrix products that read the tensor, where nothing else does."""
    model = measured.model
    if tensor in model.output_names:
        return Refusal(tensor, "it is an output of the model")
    layers = {folded.layer.node: folded.layer for folded in measured.folded}
    found = []
    for node in model.consumers(tensor):
        if node.operator.has(Trait.MEASURES):  # it reads the shape alone
            continue
        layer = layers.get(node)
        product = layer.inputs.product if layer is not None else None
        if layer is None or product not in {Product.GEMM, Product.MATMUL} or layer.input != tensor:
            return Refusal(tensor, f"{node.op_type} {node.label!r} reads it as well, and has no weight to take it up")
        if layer.weight_left or not layer.is_float or node.graph != ROOT or node.int("transA", 0):
            return Refusal(tensor, f"{node.op_type} {node.label!r} does not read its channels as rows of a weight")
        found.append(layer)
    return tuple(found) or Refusal(tensor, "nothing reads it")


def _input_axis(layer: Layer) -> int:
    """Axis of the stored weight along which input channels run."""
    if layer.inputs.product is Product.GEMM:
        return 1 if layer.node.int("transB", 0) else 0
    return len(layer.weight_shape) - 2


def _by_input(model: Model, layer: Layer) -> Vector:
    """The weight as `[input channels, everything else]`."""
    weight = np.moveaxis(layer.read_weight(model), _input_axis(layer), 0)
    return weight.reshape(weight.shape[0], -1).astype(np.float64)


def _best_factors(
    channels: Sequence[int], seen: ChannelObservation, weights: Sequence[Vector]
) -> tuple[float, ...] | None:
    """The factors that leave the least noise at the layers' results; None where moving nothing does."""
    low, high = np.minimum(seen.low, 0), np.maximum(seen.high, 0)
    index = list(channels)
    others = np.delete(np.maximum(-low, high), index).max(initial=0.0)
    reach = np.maximum(-low, high)[index]
    if not others > 0:
        return None

    def factors(strength: float) -> Vector:
        return np.asarray(2.0 ** np.maximum(np.rint(strength * np.log2(reach / others)), 0))

    def noise(divisor: Vector) -> float:
        step = ((high / divisor).max() - (low / divisor).min()) / _UINT8_STEPS
        power = (((seen.high - seen.low) / divisor) ** 2).sum() / 12
        total = 0.0
        for weight in weights:
            rows = weight * divisor[:, None]
            coarse = np.abs(rows).max() / _INT8_STEPS
            total += step**2 / 12 * float((rows**2).sum()) + coarse**2 / 12 * weight.shape[1] * float(power)
        return total

    def spread(values: Vector) -> Vector:
        divisor = np.ones(low.size)
        divisor[index] = values
        return divisor

    best = min((factors(strength) for strength in _STRENGTHS), key=lambda values: noise(spread(values)))
    return tuple(best.tolist()) if noise(spread(best)) < noise(np.ones(low.size)) / 2 else None


def _node(model: Model, output: str) -> Node:
    node = model.producer(output)
    assert node is not None
    return node
