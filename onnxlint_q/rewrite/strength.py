"""How much of each channel's size moves from an activation into the weights that read it.

With channels divided by `s_c` and the rows of the weight multiplied by it, the errors of 8-bit codes at the results of
the layers `y_j = sum_c t_c w_cj` are

    step(t')² / 12 sum_cj w_cj'²  +  sum_j step_j(w')² / 12 sum_c E[t_c'²]  +  step(g')² / 12 sum_cj w_cj'²,

with `t' = t / s`, `w' = s w`, and `g' = g / s` the gain of a normalisation, which is rounded as well and multiplies
what has a variance of 1. `E[t_c²]` is taken as a twelfth of the squared range. A weight has one step, or one for each
column `j`; a divisor counts by the worse of both. Xiao et al. (SmoothQuant, arXiv 2211.10438, eq. 4) take
`s_c = r_c^a / m_c^(1 - a)`, with the reach `r_c` of the channel and the largest weight `m_c` of its row; here both
exponents are free. Powers of two make it exact but for what underflows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.observations import ChannelObservation

Vector = npt.NDArray[np.float64]

_STRENGTHS = (0.25, 0.5, 0.75, 1.0)
_HELPS = 0.5
"""It is worth it where at most half of the noise is left."""
_LEVELS = 8
_INT8_STEPS, _UINT8_STEPS = 127.0, 255.0
_LARGEST = 2.0**20


def best_divisor(
    seen: ChannelObservation, weights: Sequence[Vector], gain: Vector | None, divisors: Iterable[Vector]
) -> Vector | None:
    """The divisor of each channel that leaves the least noise at the layers' results; None where none helps.

    Args:
        seen: the smallest and largest value of each channel.
        weights: of the layers, `[channels, everything else]`.
        gain: what the channels are multiplied by where they are made; None where that is not known.
        divisors: those to choose from, all positive.
    """
    before = _noise(seen, weights, gain, np.ones(seen.low.size))
    if not all(part > 0 for part in before):
        return None

    def left(divisor: Vector) -> float:
        after = _noise(seen, weights, gain, divisor)
        return max(new / old for new, old in zip(after, before, strict=True))

    rated = [(left(divisor), place, divisor) for place, divisor in enumerate(divisors)]
    if not rated:
        return None
    least, _, best = min(rated, key=lambda one: one[:2])
    return best if least < _HELPS else None


def outlier_divisors(seen: ChannelObservation, channels: Sequence[int]) -> Iterator[Vector]:
    """Divisors of a few channels, down to the widest of the others at most."""
    reach, index = _reach(seen), list(channels)
    others = np.delete(reach, index).max(initial=0.0)
    if not others > 0:
        return
    for strength in _STRENGTHS:
        divisor = np.ones(reach.size)
        divisor[index] = np.maximum(_power_of_two((reach[index] / others) ** strength), 1.0)
        yield divisor


def all_divisors(seen: ChannelObservation, weights: Sequence[Vector]) -> Iterator[Vector]:
    """Divisors of all channels, the median one as it is; and of those alone that reach further than that."""
    reach = _positive(_reach(seen))
    rows = _positive(np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0))
    if reach is None or rows is None:
        return
    for strength in _STRENGTHS:
        for share in (0.0, *_STRENGTHS):
            wanted = reach**strength / rows**share
            divisor = _power_of_two(wanted / np.median(wanted))
            yield divisor
            yield np.maximum(divisor, 1.0)


def level_divisor(seen: ChannelObservation, weights: Sequence[Vector], *, per_channel: bool) -> Vector | None:
    """The divisor that brings all channels beyond some level down to it; None where none helps.

    Args:
        seen: the smallest and largest value of each channel.
        weights: of the layers, `[channels, everything else]`.
        per_channel: whether each column of a weight has a step of its own; else they have one together.
    """
    reach = _reach(seen)
    before = _noise(seen, weights, None, np.ones(reach.size))[per_channel]
    levels = (reach.max(initial=0.0) / 2**power for power in range(1, _LEVELS))
    divisors = [_power_of_two_from(reach / level) for level in levels if level > 0]
    left = [_noise(seen, weights, None, divisor)[per_channel] for divisor in divisors]
    least = int(np.argmin(left)) if left else 0
    return divisors[least] if left and left[least] < _HELPS * before else None


def _noise(
    seen: ChannelObservation, weights: Sequence[Vector], gain: Vector | None, divisor: Vector
) -> tuple[float, float]:
    """With one step a weight, and with one for each of its columns."""
    low, high = np.minimum(seen.low, 0) / divisor, np.maximum(seen.high, 0) / divisor
    step = (high.max() - low.min()) / _UINT8_STEPS
    coarse = 0.0 if gain is None else float(np.abs(gain / divisor).max()) / _INT8_STEPS
    power = float((((seen.high - seen.low) / divisor) ** 2).sum()) / 12
    tensor = channel = 0.0
    for weight in weights:
        rows = np.abs(weight) * divisor[:, None]
        columns = rows.max(axis=0) / _INT8_STEPS
        read = (step**2 + coarse**2) / 12 * float((rows**2).sum())
        tensor += read + float(columns.max()) ** 2 / 12 * columns.size * power
        channel += read + float((columns**2).sum()) / 12 * power
    return tensor, channel


def _reach(seen: ChannelObservation) -> Vector:
    return np.maximum(np.maximum(-seen.low, seen.high), 0)


def _positive(sizes: Vector) -> Vector | None:
    """The sizes with the smallest that is not zero in place of zeros; None where all are."""
    some = sizes[sizes > 0]
    return np.maximum(sizes, some.min()) if some.size else None


def _power_of_two_from(values: Vector) -> Vector:
    """The smallest that are not smaller, from 1 on."""
    return np.asarray(2.0 ** np.ceil(np.log2(np.clip(values, 1, _LARGEST))))


def _power_of_two(values: Vector) -> Vector:
    return np.asarray(2.0 ** np.rint(np.log2(np.clip(values, 1 / _LARGEST, _LARGEST))))
