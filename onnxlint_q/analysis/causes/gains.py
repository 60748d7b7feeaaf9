"""Gains of a BatchNormalization beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import BatchNorm

Vector = npt.NDArray[np.float64]
EPSILONS = 10.0
"""A variance below so many epsilons is near zero: epsilon makes up a tenth of what the gain is divided by."""
SHARE_OF_MEDIAN = 1e-3
"""So is one below this share of the median variance: a standard deviation of 3 % of an ordinary channel's."""
# Half a step of an int8 activation whose 255 steps span eight standard deviations, four on either side: what varies
# less than that is one code whatever the input.
CONSTANT_SHARE = 1 / 64


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """How the gain of each channel compares with that of an ordinary one.

    Attributes:
        ratio: `|gain_c|` over the median of the ordinary channels.
        still: channels that hardly vary in front of the normalisation: their gain says nothing about the data.
        swing: standard deviation behind the normalisation, `|gain_c| sqrt(var_c)`, over the median of the ordinary
            channels.
    """

    ratio: Vector
    still: npt.NDArray[np.bool_]
    swing: Vector

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Channels that are the same for every input behind the normalisation too, as far as int8 can tell.

        A still channel need not be: with a gain large enough its little variance is spread over the whole range.
        """
        return np.asarray(self.still & (self.swing <= CONSTANT_SHARE), np.bool_)


def compare_gains(norm: BatchNorm, epsilons: float = EPSILONS, share: float = SHARE_OF_MEDIAN) -> Gains:
    """A channel is still if its variance is below `epsilons * eps`, or below `share` of the median variance.

    The reference is the median over the channels that vary: in a network with many dead filters the median over all
    channels would be the gain of a dead one.
    """
    gain, variance = np.abs(norm.gain), norm.variance
    still = variance < epsilons * norm.epsilon
    if not still.all():
        still |= variance < share * _median(variance[~still])
    with np.errstate(all="ignore"):  # parameters that are not finite are for a rule to report
        swing = gain * np.sqrt(np.maximum(variance, 0.0))
        return Gains(gain / _ordinary(gain, still), still, swing / _ordinary(swing, still))


def _ordinary(values: Vector, still: npt.NDArray[np.bool_]) -> float:
    """Median of the channels that vary and have a gain, else of those that have one; 1 where none has."""
    for chosen in (values[~still & (values > 0)], values[values > 0]):
        if chosen.size:
            return _median(chosen)
    return 1.0


def _median(values: Vector) -> float:
    """That of some values, NaN where one is; numpy's takes three times as long for as few as there are channels."""
    ordered, middle = np.sort(values), len(values) // 2
    if np.isnan(ordered[-1]) or len(values) % 2:
        return float(ordered[-1] if np.isnan(ordered[-1]) else ordered[middle])
    return float((ordered[middle - 1] + ordered[middle]) / 2)
