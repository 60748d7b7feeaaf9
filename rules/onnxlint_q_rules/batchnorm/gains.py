"""Gains of a BatchNormalization beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import BatchNorm
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.facts import Facts

Vector = npt.NDArray[np.float64]
# Variance below ten epsilons: epsilon makes up a tenth of what the gain is divided by.
EPSILONS = 10.0
# A standard deviation of 3 % of an ordinary channel's.
SHARE_OF_MEDIAN = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """How the gain of each channel compares with that of an ordinary one.

    Attributes:
        ratio: `|gain_c|` over the median of the ordinary channels.
        still: channels that hardly vary: their gain says nothing about the data.
    """

    ratio: Vector
    still: npt.NDArray[np.bool_]


def folds(facts: Facts) -> Iterator[tuple[LayerFacts, BatchNorm]]:
    """Every BatchNormalization of a float model that folds, with its layer; broken weights are left out."""
    layers = facts.layers if facts.is_float else ()
    for layer in layers:
        for norm in (layer.folded.before, layer.folded.after):
            if norm is not None and not layer.weight.non_finite:
                yield layer, norm


def compare_gains(norm: BatchNorm, epsilons: float = EPSILONS, share: float = SHARE_OF_MEDIAN) -> Gains:
    """A channel is still if its variance is below `epsilons * eps`, or below `share` of the median variance.

    The reference is the median over the channels that vary: in a network with many dead filters the median over all
    channels would be the gain of a dead one.
    """
    gain, variance = np.abs(norm.gain), norm.variance
    still = variance < epsilons * norm.epsilon
    if not still.all():
        still |= variance < share * np.median(variance[~still])
    ordinary = gain[~still & (gain > 0)]
    if not ordinary.size:
        ordinary = gain[gain > 0]
    reference = float(np.median(ordinary)) if ordinary.size else 1.0
    return Gains(np.asarray(gain / reference, np.float64), still)
