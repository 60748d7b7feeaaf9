"""How sure a fraction of samples is: intervals for counts, and how many samples would tell it from a level.

Sources: Wilson, Probable inference, the law of succession, and statistical inference, 1927 (the score interval; Brown,
Cai and DasGupta, Interval estimation for a binomial proportion, 2001, recommend it for small counts). Bonett and Price,
Adjusted Wald confidence interval for a difference of binomial proportions based on paired data, Journal of Educational
and Behavioral Statistics 37(4), 2012 (Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2014, recommend it).
"""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95
# What needs more samples than this is not decided by more samples.
MOST_SAMPLES = 100_000


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Wilson score interval of a proportion: every rate that a score test does not reject; `(0, 1)` without trials.

    With `z` of the normal distribution, `s` of `n`: `(s + z²/2 ± z sqrt(s (n - s) / n + z²/4)) / (n + z²)`.

    Raises:
        ValueError: there are more successes than trials, or less than none.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion")
    z = _deviate(confidence)
    spread = successes * (trials - successes) / trials if trials else 0.0
    centre, half = successes + z * z / 2, z * math.sqrt(spread + z * z / 4)
    # Rounding alone would leave an end next to 0 or 1 where it is exactly that.
    low = 0.0 if successes == 0 else (centre - half) / (trials + z * z)
    high = 1.0 if successes == trials else (centre + half) / (trials + z * z)
    return low, high


def confidence_below(successes: float, trials: float, level: float) -> float:
    """How sure it is that a proportion lies below a level: one half where it was found there, or without trials.

    The confidence of the one-sided `wilson` interval that ends at the level: the normal distribution function at
    `(level - p) sqrt(n / (level (1 - level)))`.
    """
    if not 0 < level < 1:
        return float(level >= 1)
    if not trials:
        return 0.5
    return NormalDist().cdf((level - successes / trials) * math.sqrt(trials / (level * (1 - level))))


def samples_to_decide(successes: float, trials: float, level: float, confidence: float = CONFIDENCE) -> int | None:
    """The smallest number of samples whose `wilson` interval, at the same rate `p`, does not hold `level`.

    The interval holds the level as long as `(p - level)² <= z² level (1 - level) / n`. None where the rate is the
    level, where nothing was tried, and where it would take more than `MOST_SAMPLES`.
    """
    if not trials or successes == level * trials:
        return None
    least = (_deviate(confidence) / (successes / trials - level)) ** 2 * level * (1 - level)
    return math.floor(least) + 1 if least < MOST_SAMPLES else None


def paired_loss(lost: int, gained: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The adjusted Wald interval of Bonett and Price for what a proportion lost between two runs on the same samples.

    Only samples count that one run had right and the other wrong. With one more of either kind and two more samples,
    `p = (lost + 1) / (n + 2)` and `q = (gained + 1) / (n + 2)`, the interval of the loss is
    `p - q ± z sqrt((p + q - (p - q)²) / (n + 2))`, cut at -1 and 1.

    Args:
        lost: samples that the first run had right and the second wrong.
        gained: samples that only the second had right.
        trials: all samples.
        confidence: how often such an interval holds the true loss.

    Raises:
        ValueError: there are more of them than trials, or less than none.
    """
    if min(lost, gained) < 0 or lost + gained > trials:
        raise ValueError(f"{lost} lost and {gained} gained of {trials} is impossible")
    p, q = (lost + 1) / (trials + 2), (gained + 1) / (trials + 2)
    half = _deviate(confidence) * math.sqrt((p + q - (p - q) ** 2) / (trials + 2))
    return max(p - q - half, -1.0), min(p - q + half, 1.0)


def _deviate(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
