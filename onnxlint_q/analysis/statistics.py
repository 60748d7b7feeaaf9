"""Per-channel statistics of the folded weights and their errors: one layer at a time, tile by tile, on all cores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import (
    INT8,
    NumberFormat,
    Sharing,
    decibel,
    weight_round_trip,
    weight_scale,
)
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.cores import on_all_cores, tiles
from onnxlint_q.graph import Layer, Model, Node

Vector = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
# A sum of squares in float32 is as good as one in float64 from here on.
_LEAST = 1e-24
# Half steps from zero to the largest magnitude, under a scale for int8: what lies within the first becomes zero.
_HALF_STEPS = 2 * INT8.largest


@dataclass(frozen=True, slots=True, eq=False)
class WeightStatistics:
    """What is known of one weight tensor.

    Vectors have one value per output channel. A channel is *dead* if all its weights are zero, and *collapsed* if it
    is not dead and every one of its weights becomes zero under one scale for the tensor: `absmax_c <= absmax / 254`,
    half a step of the 127 codes on each side.

    Attributes:
        low, high: smallest and largest weight of each channel.
        power: mean square of each channel.
        mean: mean of each channel.
        noise: mean square error of each channel, by the name of each scheme that quantises the weight.
        vanishing: fraction of each channel's non-zero weights that become zero under an int8 scale of its own, that
            is are at most `absmax_c / 254`.
        non_finite: how many weights are NaN or infinite; the other figures leave those channels out.
    """

    low: Vector
    high: Vector
    power: Vector
    mean: Vector
    noise: Mapping[str, Vector]
    vanishing: Vector
    non_finite: int = 0

    @property
    def absmax(self) -> Vector:
        """Largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def range(self) -> float:
        """Largest minus smallest weight of the tensor."""
        return float(self.high.max() - self.low.min()) if self.high.size else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of all weights; channels have one number of weights."""
        if not self.power.size:
            return 0.0
        return float(np.sqrt(max(self.power.mean() - self.mean.mean() ** 2, 0.0)))

    @property
    def channel_ratio(self) -> float:
        """Magnitude of the widest channel over that of the median one, dead channels left out; 1 where all are dead."""
        alive = self.absmax[self.absmax > 0]
        return float(alive.max() / np.median(alive)) if alive.size else 1.0

    @property
    def channel_precision(self) -> Vector:
        """`range_c / range_tensor` of each channel, in (0, 1]; the terms of eq. 2."""
        whole = self.range
        return (self.high - self.low) / whole if whole > 0 else np.ones_like(self.high)

    @property
    def average_precision(self) -> float:
        """`mean_c(range_c) / range_tensor` (Yun & Wong, arXiv 2104.11849, eq. 2).

        A channel with one weight has no range of its own, so for such tensors magnitudes stand in for ranges.
        """
        if not self.high.size:
            return 1.0
        if not np.any(self.high > self.low):
            top = float(self.absmax.max())
            return float(self.absmax.mean() / top) if top > 0 else 1.0
        return float(self.channel_precision.mean())

    @property
    def dead(self) -> npt.NDArray[np.intp]:
        """Indices of the channels whose weights are all zero."""
        return np.flatnonzero(self.absmax == 0)

    @property
    def collapsed(self) -> npt.NDArray[np.intp]:
        """Indices of the channels that one int8 scale for the tensor turns into zeros."""
        absmax = self.absmax
        top = absmax.max() if absmax.size else 0.0
        return np.flatnonzero((absmax > 0) & (absmax <= top / _HALF_STEPS))

    def channel_sqnr_db(self, scheme: str) -> Vector:
        """SQNR (dB) of each living channel's weights under `scheme`; +inf where nothing is lost."""
        alive = self.power > 0
        with np.errstate(divide="ignore"):
            return np.asarray(10 * np.log10(self.power[alive] / self.noise[scheme][alive]), np.float64)

    def mean_channel_sqnr_db(self, scheme: str) -> float | None:
        """Mean of `channel_sqnr_db`, a lossless channel counting as 150 dB; None for a dead tensor."""
        values = self.channel_sqnr_db(scheme)
        return float(np.minimum(values, 150.0).mean()) if values.size else None

    def tensor_sqnr_db(self, scheme: str) -> float | None:
        """SQNR (dB) of the whole tensor under `scheme`, what ONNX Runtime's debugger prints."""
        return decibel(float(self.power.sum()), float(self.noise[scheme].sum()))


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """The weight of a layer as the file holds it, measured as far as somebody asks.

    Attributes:
        model: that it belongs to.
        layer: whose weight.
        schemes: those that its statistics are about.
    """

    model: Model
    layer: Layer
    schemes: tuple[Scheme, ...]

    def statistics(self) -> WeightStatistics:
        """All there is to know."""
        return weight_statistics(self._matrix(), self.schemes, self.layer.scale_sharing)

    def range(self) -> float:
        """Largest minus smallest weight, as in the statistics, in a fraction of the time."""
        low, high = channel_ends(self._matrix())
        finite = np.isfinite(low) & np.isfinite(high)
        return float(high[finite].max()) - float(low[finite].min()) if finite.any() else 0.0

    def _matrix(self) -> Single:
        return self.layer.by_channel(self.layer.read_weight(self.model))


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """A folded layer with the statistics of its weight.

    One with several weights is seen with the first of them; `operands` gives it once for each.

    Attributes:
        folded: the layer and what folds into it.
        weight: of the folded weight.
        stored: the weight as it is stored, where folding changes it.
        others: the layer seen with each further weight.
    """

    folded: FoldedLayer
    weight: WeightStatistics
    stored: StoredWeight | None = field(default=None, repr=False)
    others: tuple[LayerFacts, ...] = field(default=(), repr=False)

    @cached_property
    def before(self) -> WeightStatistics:
        """Statistics of the weight as stored; few rules ask for them."""
        return self.weight if self.stored is None else self.stored.statistics()

    @property
    def stored_range(self) -> float:
        """Largest minus smallest weight as stored."""
        return self.weight.range if self.stored is None else self.stored.range()

    @property
    def operands(self) -> tuple[LayerFacts, ...]:
        """The layer seen with each of its weights; itself where it has one."""
        return (self, *self.others)

    @property
    def operand(self) -> str:
        """Name of the weight that it is seen with, empty where it has one."""
        return self.folded.layer.operand

    @property
    def output(self) -> str:
        """The layer's key in every report."""
        return self.folded.output

    @property
    def node(self) -> Node:
        """Its operator."""
        return self.folded.layer.node

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads one input channel."""
        return self.folded.layer.depthwise


@dataclass(frozen=True, slots=True)
class WeightRounding:
    """The rounding of one weight, tile by tile.

    Attributes:
        number: format of the codes.
        sharing: which values of the weight share a scale.
        scale: of the weight, or of each channel; blocks have their own.
    """

    number: NumberFormat
    sharing: Sharing
    scale: Single

    @classmethod
    def of(cls, largest: Single, number: NumberFormat, sharing: Sharing, tied: int = 1) -> WeightRounding:
        """That of a weight with this largest magnitude in each channel; the rest as of `weight_round_trip`."""
        return cls(number, sharing, weight_scale(largest[:, None], number, sharing, tied))

    def error(self, part: Single, rows: slice) -> Single:
        """What it adds to a tile of the weight, of which these are the channels."""
        scale = self.scale[rows] if len(self.scale) > 1 else self.scale
        made = weight_round_trip(part, self.number, self.sharing, scale=scale)
        made -= part
        return made


def channel_ends(matrix: Single) -> tuple[Single, Single]:
    """Smallest and largest value of each channel of `[channels, taps]`; NaN where one of its values is."""
    low, high = np.full(len(matrix), np.inf, np.float32), np.full(len(matrix), -np.inf, np.float32)
    places = tiles(matrix)
    with np.errstate(invalid="ignore"):
        for (rows, _), (least, most) in zip(places, on_all_cores(partial(_tile_ends, matrix), places), strict=True):
            np.minimum(low[rows], least, out=low[rows])
            np.maximum(high[rows], most, out=high[rows])
    return low, high


def _tile_ends(matrix: Single, place: tuple[slice, slice]) -> tuple[Single, Single]:
    part = matrix[place]
    with np.errstate(invalid="ignore"):
        return part.min(axis=1), part.max(axis=1)


def weight_errors(matrix: Single, kinds: Sequence[tuple[NumberFormat, Sharing]], tied: int = 1) -> list[Single]:
    """What `weight_round_trip` adds to a weight under each format and sharing, in its layout in memory."""
    low, high = channel_ends(matrix)
    largest = np.maximum(high, -low)
    roundings = [WeightRounding.of(largest, number, sharing, tied) for number, sharing in kinds]
    errors = [np.empty_like(matrix) for _ in kinds]

    def fill(place: tuple[slice, slice]) -> None:
        part = matrix[place]
        with np.errstate(over="ignore", invalid="ignore"):
            for rounding, error in zip(roundings, errors, strict=True):
                error[place] = rounding.error(part, place[0])

    on_all_cores(fill, tiles(matrix))
    return errors


def measure_layers(model: Model, layers: Sequence[FoldedLayer], schemes: Sequence[Scheme]) -> tuple[LayerFacts, ...]:
    """Statistics of every layer, weights read one after the other, and each once however many layers share it."""
    known: dict[Hashable, WeightStatistics] = {}
    return tuple(_measure_all(model, folded, schemes, known) for folded in layers)


def _measure_all(
    model: Model, folded: FoldedLayer, schemes: Sequence[Scheme], known: dict[Hashable, WeightStatistics]
) -> LayerFacts:
    first, *others = (_measure(model, operand, schemes, known) for operand in folded.operands)
    return replace(first, others=tuple(others))


def _measure(
    model: Model, folded: FoldedLayer, schemes: Sequence[Scheme], known: dict[Hashable, WeightStatistics]
) -> LayerFacts:
    layer = folded.layer
    own = tuple(scheme.of_layer(layer) for scheme in schemes if scheme.covers(layer))
    key = folded.made_of(model), own
    if key not in known:
        known[key] = weight_statistics(folded.matrix(model), own, layer.scale_sharing)
    return LayerFacts(folded, known[key], StoredWeight(model, layer, own) if folded.is_folded else None)


def weight_statistics(matrix: Single, schemes: Sequence[Scheme], tied: int = 1) -> WeightStatistics:
    """Statistics of a weight given as `[channels, taps]`, `tied` channels having one per-channel scale."""
    low, high = channel_ends(matrix)
    finite = np.isfinite(low) & np.isfinite(high)
    non_finite = 0
    if matrix.size and not finite.all():
        non_finite = int(matrix.size - np.count_nonzero(np.isfinite(matrix)))
        matrix, tied, low, high = matrix[finite], 1, low[finite], high[finite]
    if not matrix.size:
        empty = np.zeros(0)
        return WeightStatistics(empty, empty, empty, empty, {s.name: empty for s in schemes}, empty, non_finite)
    largest = np.maximum(high, -low)
    distinct = tuple(dict.fromkeys((scheme.weights, scheme.sharing) for scheme in schemes))
    roundings = [WeightRounding.of(largest, number, sharing, tied) for number, sharing in distinct]
    places = tiles(matrix)
    sums = np.zeros((4 + len(distinct), len(matrix)))
    parts = on_all_cores(lambda place: _sums(matrix[place], place[0], largest[place[0]], roundings), places)
    for (rows, _), part in zip(places, parts, strict=True):
        sums[:, rows] += part
    (power, mean, *noise), (living, kept) = sums[:-2] / matrix.shape[1], sums[-2:]
    by_kind = dict(zip(distinct, noise, strict=True))
    by_scheme = {scheme.name: by_kind[scheme.weights, scheme.sharing] for scheme in schemes}
    # A dead channel keeps all its zeros by this count and has nothing that could vanish.
    vanishing = np.where(living > 0, 1 - kept / np.maximum(living, 1), 0.0)
    return WeightStatistics(
        low.astype(np.float64), high.astype(np.float64), power, mean, by_scheme, vanishing, non_finite
    )


def _sums(
    part: Single,
    rows: slice,
    largest: Single,
    roundings: Sequence[WeightRounding],
) -> npt.NDArray[np.float64]:
    """Of the values of each channel in a tile: squares, values, squares of each error; how many live, and stay so."""
    magnitude = np.abs(part)
    counted = _counted(magnitude > 0), _counted(magnitude > largest[:, None] / _HALF_STEPS)
    noise = (_squares(rounding.error(part, rows)) for rounding in roundings)
    return np.stack([_squares(part), _totals(part), *noise, *counted])


def _totals(part: Single) -> Vector:
    """Their sum in each channel; in float64 where that of a tile may be too large for float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.asarray(part.sum(axis=1), np.float64)
    return sums if np.isfinite(sums).all() else np.asarray(part.sum(axis=1, dtype=np.float64), np.float64)


def _squares(part: Single) -> Vector:
    """Their sum in each channel; in float64 where one may be too large or too small for float32."""
    with np.errstate(over="ignore", under="ignore"):
        sums = np.asarray(np.einsum("ct,ct->c", part, part), np.float64)
    poor = (sums < _LEAST) | ~np.isfinite(sums)
    if poor.any():
        rows = part[poor].astype(np.float64)
        sums[poor] = np.einsum("ct,ct->c", rows, rows)
    return sums


def _counted(truth: npt.NDArray[np.bool_]) -> Vector:
    """How many of each channel are true: as a product, which is exact up to 2^24 of them and several times as fast."""
    return np.asarray(truth.astype(np.float32) @ np.ones(truth.shape[1], np.float32), np.float64)
