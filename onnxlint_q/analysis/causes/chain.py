"""What made a layer bad: the links from BatchNorm statistics to the codes that a channel is left with, in order.

    var_c -> 0, or gamma_c drifts   =>   gain_c = gamma_c / sqrt(var_c + eps) stands out   =>   folding widens channel c
    =>   channel c sets the scale, max_c |w_c| / 127   =>   the median channel keeps a few codes, others none

The first steps are those of Sheng et al. (arXiv 1803.08607) and Yun & Wong (arXiv 2104.11849, section 3), who found
them one by one in MobileNetV1. A layer without a BatchNormalization starts where its channels' ranges drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.causes.gains import Gains, compare_gains
from onnxlint_q.analysis.folding import BatchNorm
from onnxlint_q.analysis.number_formats import INT8
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts, WeightStatistics

Vector = npt.NDArray[np.float64]

# A still channel is worth telling where its gain is two of eight bits above an ordinary one.
LIFTED = 4.0
# A channel that varies has a gain of its own right up to a larger ratio: three of eight bits.
OUTLYING = 8.0
# A channel with such a gain is a link where it is itself that much wider than the median channel: two bits again.
STANDS_OUT = 4.0
# Folding is a cause where it doubles how far the widest channel stands out: one bit.
WORSENED = 2.0
# The range is owned where the median channel loses two of eight bits to it, by the channels that would lose less than
# one themselves.
OWNED, OWNER_SHARE = 4.0, 0.5
# An activation is wide where the median channel loses three of eight bits. One more than for a weight: a channel's
# range is itself only expected, from four standard deviations around beta, and channels differ in beta.
WIDE, DEVIATIONS = 8.0, 4.0


class CauseKind(StrEnum):
    """The links of the chain, in the order in which they are told."""

    STILL_CHANNELS = "still-channels"
    OUTLIER_GAINS = "outlier-gains"
    FOLDING = "folding"
    DRIFTING_RANGES = "drifting-ranges"
    RANGE_OWNERS = "range-owners"
    COLLAPSED_CHANNELS = "collapsed-channels"
    WIDE_ACTIVATION = "wide-activation"


@dataclass(frozen=True, slots=True)
class Cause:
    """One link.

    Attributes:
        channels: those it is about, the one that matters most first; output channels unless `inputs`.
        numbers: what was measured, by name; the function that makes the link says what each means.
        inputs: the channels are the layer's input channels: the BatchNormalization is in front of it.
    """

    kind: CauseKind
    channels: tuple[int, ...]
    numbers: Mapping[str, float]
    inputs: bool = False


def find_causes(layer: LayerFacts, observation: TensorObservation | None = None) -> tuple[Cause, ...]:
    """The chain behind a layer's weight under one int8 scale, often empty.

    `seen` is what a run observed of the activation that is stored behind the layer. A weight with NaN or infinity in it
    has no chain: its statistics leave channels out.
    """
    if layer.weight.non_finite or not layer.weight.absmax.any():
        return ()
    return tuple(_links(layer, observation))


def _links(layer: LayerFacts, observation: TensorObservation | None) -> Iterator[Cause]:
    folded = layer.folded
    if folded.before is not None:
        # Which input channel widened which output channel cannot be told from the ranges of the outputs.
        yield from _gain_links(folded.before, np.ones(folded.before.gamma.size, np.bool_), inputs=True)
    if folded.after is not None:
        absmax = layer.weight.absmax
        # A large gain on weights that are next to zero made nothing bad.
        wide = absmax >= STANDS_OUT * np.median(absmax[absmax > 0])
        yield from _gain_links(folded.after, wide, inputs=False)
    after, before = widest_over_median(layer.weight), widest_over_median(layer.before)
    lost = np.setdiff1d(layer.weight.collapsed, constant_channels(layer))
    if folded.is_folded and after >= WORSENED * before:
        yield _folding(layer, before, after)
    elif after >= OWNED or lost.size:
        yield _drifting_ranges(layer.weight, after)
    if after >= OWNED:
        yield _range_owners(layer.weight, after)
    if lost.size:
        yield Cause(CauseKind.COLLAPSED_CHANNELS, _indices(lost), {"channels": float(layer.weight.absmax.size)})
    if folded.after is not None and observation is not None:
        yield from _wide_activation(folded.after, observation)


def widest_over_median(weight: WeightStatistics) -> float:
    """Largest magnitude of the widest channel over that of the median living one; 1 for a dead tensor."""
    living = weight.absmax[weight.absmax > 0]
    return float(living.max() / np.median(living)) if living.size else 1.0


def lifted_channels(gains: Gains, ratio: float = LIFTED) -> npt.NDArray[np.intp]:
    """Still channels whose gain is at least `ratio` times an ordinary one, the largest first."""
    return _descending(np.flatnonzero(gains.still & (gains.ratio >= ratio)), gains.ratio)


def constant_channels(layer: LayerFacts) -> npt.NDArray[np.intp]:
    """Output channels that return the same for every input: all weights zero, or constant behind their BatchNorm."""
    norm = layer.folded.after
    constant = np.flatnonzero(compare_gains(norm).constant) if norm is not None else layer.weight.dead[:0]
    return np.union1d(layer.weight.dead, constant)


def _gain_links(norm: BatchNorm, wide: npt.NDArray[np.bool_], *, inputs: bool) -> Iterator[Cause]:
    gains = compare_gains(norm)
    lifted = lifted_channels(gains)
    yield from _still_channels(norm, gains, lifted[wide[lifted]], inputs)
    outlying = _descending(np.flatnonzero(~gains.still & wide & (gains.ratio >= OUTLYING)), gains.ratio)
    yield from _outlier_gains(gains, outlying, inputs)


def _still_channels(norm: BatchNorm, gains: Gains, lifted: npt.NDArray[np.intp], inputs: bool) -> Iterator[Cause]:
    """`variance`: the largest of the channels listed. `ordinary_variance`: median of those that vary, 0 if none does.

    `gain_ratio`: the largest gain over an ordinary one. `constant`: how many of the channels are constant behind the
    normalisation too.
    """
    if lifted.size:
        varying = norm.variance[~gains.still]
        numbers = {
            "variance": float(norm.variance[lifted].max()),
            "ordinary_variance": float(np.median(varying)) if varying.size else 0.0,
            "gain_ratio": float(gains.ratio[lifted[0]]),
            "constant": float(np.count_nonzero(gains.constant[lifted])),
        }
        yield Cause(CauseKind.STILL_CHANNELS, _indices(lifted), numbers, inputs)


def _outlier_gains(gains: Gains, outliers: npt.NDArray[np.intp], inputs: bool) -> Iterator[Cause]:
    """`gain_ratio`: the largest gain of a channel that varies over an ordinary one."""
    if outliers.size:
        numbers = {"gain_ratio": float(gains.ratio[outliers[0]])}
        yield Cause(CauseKind.OUTLIER_GAINS, _indices(outliers), numbers, inputs)


def _folding(layer: LayerFacts, before: float, after: float) -> Cause:
    """Widest over median, average precision and mean channel SQNR (dB, 0 for a dead tensor) before and after."""
    scheme = INT8_PER_TENSOR.name
    numbers = {
        "widest_over_median_before": before,
        "widest_over_median_after": after,
        "average_precision_before": layer.before.average_precision,
        "average_precision_after": layer.weight.average_precision,
        "channel_sqnr_before_db": layer.before.mean_channel_sqnr_db(scheme) or 0.0,
        "channel_sqnr_after_db": layer.weight.mean_channel_sqnr_db(scheme) or 0.0,
    }
    return Cause(CauseKind.FOLDING, (), numbers)


def _drifting_ranges(weight: WeightStatistics, ratio: float) -> Cause:
    """`widest_over_median`, `widest_over_narrowest`, `average_precision` of a weight that folding did not make so."""
    living = weight.absmax[weight.absmax > 0]
    numbers = {
        "widest_over_median": ratio,
        "widest_over_narrowest": float(living.max() / living.min()),
        "average_precision": weight.average_precision,
    }
    return Cause(CauseKind.DRIFTING_RANGES, (), numbers)


def _range_owners(weight: WeightStatistics, ratio: float) -> Cause:
    """The channels that set the scale.

    `widest_over_median`; `range_share`: range of the first over that of the tensor, 0 where
    a channel is one weight; `median_codes`: how many of the
    255 codes of a symmetric int8 scale reach as far as the median channel does; `runner_up`: widest of the other
    channels over the median.
    """
    absmax = weight.absmax
    top, median = float(absmax.max()), float(np.median(absmax[absmax > 0]))
    owners = _descending(np.flatnonzero(absmax >= OWNER_SHARE * top), absmax)
    others = np.delete(absmax, owners)
    numbers = {
        "widest_over_median": ratio,
        "range_share": float(weight.channel_precision[owners[0]]),
        "median_codes": float(2 * np.rint(INT8.largest * median / top) + 1),
        "runner_up": float(others.max() / median) if others.size else 0.0,
    }
    return Cause(CauseKind.RANGE_OWNERS, _indices(owners), numbers)


def _wide_activation(norm: BatchNorm, observation: TensorObservation) -> Iterator[Cause]:
    """The channels from which the statistics expect half of the range that was observed, if any.

    `low`, `high`: what was observed. `ratio`: its range over the part of it in which the median channel is expected,
    `beta ± 4 |gain| sqrt(var)`.
    """
    swing = DEVIATIONS * np.abs(norm.gain) * np.sqrt(np.maximum(norm.variance, 0.0))
    # Within what was seen: an activation such as Relu6 cuts off the rest.
    low, high = (np.clip(edge, observation.low, observation.high) for edge in (norm.beta - swing, norm.beta + swing))
    span = high - low
    if not (span > 0).any() or not np.isfinite(span).all():
        return
    median = float(np.median(span[span > 0]))
    if observation.range >= WIDE * median:
        wide = _descending(np.flatnonzero(span >= OWNER_SHARE * observation.range), span)
        numbers = {"low": observation.low, "high": observation.high, "ratio": observation.range / median}
        yield Cause(CauseKind.WIDE_ACTIVATION, _indices(wide), numbers)


def _descending(chosen: npt.NDArray[np.intp], values: Vector) -> npt.NDArray[np.intp]:
    return np.asarray(chosen[np.argsort(-values[chosen], kind="stable")], np.intp)


def _indices(chosen: npt.NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(int(index) for index in chosen)
