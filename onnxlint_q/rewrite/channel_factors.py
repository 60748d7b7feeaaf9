"""Factors of channels: they move from the gain of a normalisation into the layers that read it.

A normalisation ends in `t_c = gain_c n_c + shift_c`. Where layers `y_j = sum_c t_c w_cj` are all that reads it,

    t_c' = t_c / s_c,        w_cj' = s_c w_cj

leave `y` what it is for any `s_c > 0` (Xiao et al., SmoothQuant, arXiv 2211.10438, eq. 3). One scale for `t'` is then
as fine as the widest channel that is left asks for, and one for `w'` as coarse as its widest row; `strength` weighs
one against the other. All channels are divided, or those few that somebody names.

How far channels reach is what a run saw. Without a run it is `shift_c` and four times `gain_c` on both sides: what is
normalised has a variance of 1. Where several normalisations have one gain and the same layers, as where a block is
gone through again and again, they are divided alike and go on sharing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_

import numpy as np

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations
from onnxlint_q.graph import Layer, Model, Node, Trait, channel_axis, find_layers
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety
from onnxlint_q.rewrite.rows import has_rows, row_axis, rows
from onnxlint_q.rewrite.strength import Vector, all_divisors, best_divisor, outlier_divisors

Gain = tuple[str, int]
"""A constant, one value a channel: output of the node that reads it, and the slot of its input."""
Gains = tuple[Gain, ...]

NAME = "channel-factors"
OTHER_CHANNELS = "the layers that read it have other channels than it has"
# Where a normalisation keeps its gain and its shift.
_GAINS: Mapping[str, tuple[int, ...]] = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
    "BatchNormalization": (1, 2),
}
# Nearly all values of a normalised tensor lie within so many deviations.
_DEVIATIONS = 4.0


@dataclass(frozen=True, slots=True)
class ChannelFactors(Candidate):
    """A normalisation whose channels can be divided, and the layers that multiply them again.

    Attributes:
        gains: what is divided.
        readers: keys of the layers that are multiplied.
        channels: those that are divided.
        factors: what each of them is divided by; powers of two.
    """

    gains: Gains
    readers: tuple[str, ...]
    channels: tuple[int, ...]
    factors: tuple[float, ...]

    @property
    def change(self) -> str:
        """How many channels, by how much."""
        count, ends = len(self.channels), (min(self.factors), max(self.factors))
        by = f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:g} to {ends[1]:g}"
        layers = f"the weight{'s' * (len(self.readers) != 1)} behind it"
        return f"{count} channel{'s' * (count != 1)} divided by {by}, and {layers} multiplied"

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
    return _moved(measured, place, seen, partial(outlier_divisors, channels=channels))


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
    return place.divided(channels, factors)


def find(measured: Measured, observations: Observations | None) -> Iterator[ChannelFactors | Refusal]:
    """Every normalisation of the main graph whose readers are layers, with the channels that are best divided."""
    model = measured.model
    alike: dict[Hashable, list[tuple[_Place, ChannelObservation]]] = {}
    for node in model.nodes:
        known = None if node.output in model.constants else _source(model, node.output)
        if known is None or _is_within(model, node):
            continue
        place = _place(measured, node.output)
        if isinstance(place, Refusal):
            yield place
            continue
        seen = _seen(measured, place, observations)
        if isinstance(seen, Refusal):
            yield seen
        else:
            alike.setdefault(place.made_of(model), []).append((place, seen))
    for group in alike.values():
        first, seen = group[0][0], reduce(or_, (one for _, one in group))
        moved = _moved(measured, first, seen, partial(all_divisors, weights=first.weights(model)))
        for place, _ in group:
            if isinstance(moved, Refusal):
                yield Refusal(place.tensor, moved.reason)
            else:
                yield place.divided(moved.channels, moved.factors)


@dataclass(frozen=True, slots=True)
class _Source:
    """The constants that a tensor is proportional to, one value a channel.

    Attributes:
        gain: what its values are multiplied by.
        shift: what is added to that; None where nothing is.
    """

    gain: Gain
    shift: Gain | None = None

    @property
    def constants(self) -> Gains:
        return (self.gain,) if self.shift is None else (self.shift, self.gain)


@dataclass(frozen=True, slots=True)
class _Place:
    """A tensor whose channels can be divided.

    Attributes:
        tensor: its key.
        source: the constants that make its channels as large as they are.
        readers: the layers that read it.
    """

    tensor: str
    source: _Source
    readers: tuple[Layer, ...]

    def divided(self, channels: Iterable[int], factors: Iterable[float]) -> ChannelFactors:
        readers = tuple(layer.output for layer in self.readers)
        return ChannelFactors(self.tensor, self.source.constants, readers, tuple(channels), tuple(factors))

    def weights(self, model: Model) -> list[Vector]:
        return [rows(model, layer) for layer in self.readers]

    def size(self, model: Model) -> Vector:
        return _values(model, self.source.gain)

    def made_of(self, model: Model) -> Hashable:
        """Places with the same have the same gains and the same weights."""
        gains = tuple(model.constants.made_of(_key(model, gain)) for gain in self.source.constants)
        return gains, tuple(layer.made_of(model) for layer in self.readers)


def _moved(
    measured: Measured,
    place: _Place,
    seen: ChannelObservation,
    divisors: Callable[[ChannelObservation], Iterable[Vector]],
) -> ChannelFactors | Refusal:
    """The best of these divisors."""
    model = measured.model
    weights = place.weights(model)
    if any(weight.shape[0] != seen.low.size for weight in weights):
        return Refusal(place.tensor, OTHER_CHANNELS)
    if not all(np.isfinite(weight).all() for weight in weights):
        return Refusal(place.tensor, "a weight that reads it is not finite")
    if not (np.isfinite(seen.low).all() and np.isfinite(seen.high).all()):
        return Refusal(place.tensor, "its values are not finite")
    divisor = best_divisor(seen, weights, place.size(model), divisors(seen))
    if divisor is None:
        return Refusal(place.tensor, "the weights that read it would lose as much as it gains")
    channels = np.flatnonzero(divisor != 1)
    return place.divided(map(int, channels), map(float, divisor[channels]))


def _seen(measured: Measured, place: _Place, observations: Observations | None) -> ChannelObservation | Refusal:
    """The smallest and largest value of each channel; expected ones where nothing was run."""
    model = measured.model
    if observations is None:
        return _expected(model, place)
    known, shape = observations.tensors.get(place.tensor), model.shape(place.tensor)
    if known is None or known.channels is None or shape is None or channel_axis(model, place.tensor) != len(shape) - 1:
        return Refusal(place.tensor, "its channels were not told apart")
    return known.channels


def _expected(model: Model, place: _Place) -> ChannelObservation | Refusal:
    product = _node(model, place.source.gain[0])
    if product.op_type not in _GAINS:
        normal = model.producer(product.input(1 - place.source.gain[1]))
        computed = normal is not None and not any(model.is_constant(key) for key in normal.inputs)
        if normal is None or normal.op_type not in {"Mul", "Div"} or not computed:
            return Refusal(place.tensor, "without data nobody knows how far its channels reach")
    reach, middle = _DEVIATIONS * np.abs(place.size(model)), np.zeros(place.size(model).size)
    if place.source.shift is not None:
        output, slot = place.source.shift
        subtracted = _node(model, output).op_type == "Sub" and slot == 1
        middle = _values(model, place.source.shift) * (-1 if subtracted else 1)
    return ChannelObservation(middle - reach, middle + reach)


def _place(measured: Measured, tensor: str) -> _Place | Refusal:
    """The gains that make a tensor, and the layers that read it; else why nothing can move."""
    source = _source(measured.model, tensor)
    if source is None:
        return Refusal(tensor, "its channels get their size from no constant gain")
    readers = _readers(measured, tensor)
    if isinstance(readers, Refusal):
        return readers
    sizes = {_values(measured.model, gain).size for gain in source.constants}
    sizes |= {layer.weight_shape[row_axis(layer)] for layer in readers}
    return _Place(tensor, source, readers) if len(sizes) == 1 else Refusal(tensor, OTHER_CHANNELS)


def apply(model: Model, wanted: Iterable[ChannelFactors]) -> Model:
    """A copy of the model with all these factors moved; what was shared and changes alike is shared again."""
    edit = Edit(model)
    layers = {layer.output: layer for layer in find_layers(model)}
    made: dict[Hashable, str] = {}

    def change(output: str, slot: int, key: str, axis: int, one: ChannelFactors, power: int) -> None:
        what = model.constants.made_of(key), axis, one.channels, one.factors, power
        if what not in made:
            stored = model.constants[key]
            value = np.moveaxis(stored.astype(np.float64), axis, -1)
            value[..., list(one.channels)] *= np.asarray(one.factors) ** power
            value = np.moveaxis(value, -1, axis).astype(stored.dtype)
            made[what] = edit.constant(value, f"{key.rpartition('/')[2]}_scaled")
        edit.read(output, slot, made[what])

    for one in wanted:
        for gain in one.gains:
            change(*gain, _key(model, gain), -1, one, -1)
        for reader in one.readers:
            layer = layers[reader]
            change(reader, layer.weight_slot, layer.weight, row_axis(layer), one, 1)
    return edit.done()


def scaled(seen: ChannelObservation, wanted: ChannelFactors) -> ChannelObservation:
    """What is seen of the tensor's channels behind the rewrite."""
    divisor = np.ones(seen.low.size)
    divisor[list(wanted.channels)] = wanted.factors
    return ChannelObservation(seen.low / divisor, seen.high / divisor)


def _source(model: Model, tensor: str) -> _Source | None:
    """The constants that a tensor is proportional to; None where it is to none."""
    node = model.producer(tensor)
    if node is None or node.graph != ROOT or node.output != tensor:
        return None
    if node.op_type in _GAINS:
        return _normalised(model, node)
    shift = _constant_slot(model, node) if node.operator.has(Trait.ADDS) else None
    if shift is None:
        gain = _constant_slot(model, node) if node.op_type == "Mul" else None
        return None if gain is None else _Source((tensor, gain))
    before = node.input(1 - shift)
    product = model.producer(before)
    gain = _constant_slot(model, product) if product is not None and product.op_type == "Mul" else None
    if product is None or gain is None or model.sole_consumer(before) is not node or product.graph != ROOT:
        return None
    return _Source((before, gain), (tensor, shift))


def _normalised(model: Model, node: Node) -> _Source | None:
    """Of an operator that normalises, where its channels run along the last axis."""
    present = [(node.output, slot) for slot in _GAINS[node.op_type] if node.input(slot)]
    whole = all(_fits(model, node.input(slot)) for _, slot in present)
    if not present or present[0][1] != _GAINS[node.op_type][0] or not whole:
        return None
    if node.op_type == "BatchNormalization" and len(model.shape(node.output) or ()) != 2:
        return None
    return _Source(*present)


def _is_within(model: Model, node: Node) -> bool:
    """Whether a node makes the product inside a normalisation that is spelt out, and no tensor that layers read."""
    reader = model.sole_consumer(node.output)
    source = _source(model, reader.output) if reader is not None else None
    return reader is not None and source is not None and source.gain[0] == node.output != reader.output


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


def _key(model: Model, gain: Gain) -> str:
    output, slot = gain
    return _node(model, output).input(slot)


def _values(model: Model, gain: Gain) -> Vector:
    return np.ravel(model.constants[_key(model, gain)]).astype(np.float64)


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
            return Refusal(tensor, f"its reader {node.op_type} has no weight to take the factors up")
        if not has_rows(layer):
            return Refusal(tensor, f"its reader {node.op_type} does not read the channels as rows of a weight")
        found.append(layer)
    return tuple(found) or Refusal(tensor, "nothing reads it")


def _node(model: Model, output: str) -> Node:
    node = model.producer(output)
    assert node is not None
    return node


REWRITE = Rewrite(
    name=NAME,
    what="factors of channels moved from normalisations into the layers behind them",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
)
