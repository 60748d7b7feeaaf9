"""Whether some of the samples tell already on which side of a level the SQNR of all of them lies.

The SQNR is a ratio of sums over samples. Its standard error `s` is that of the jackknife, from the same figure without
each of the n samples in turn, in decibels, where ratios spread evenly:

    s^2 = (n - 1) / n * sum_i (x_(i) - mean(x_(i)))^2

It errs to the safe side on average (Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9, 1981).
The answer is clear where the level lies outside of `x +- t * s`, with the quantile t of Student's distribution of n - 1
degrees.

A claim is looked at again after more samples, and every look may err. The look after n samples gets the part
`1 / (k (k + 1))` of what may err in all, where k is the number of times that 1 has doubled to n; these parts sum up to
one. It is the union bound over epochs that grow geometrically (Howard, Ramdas, McAuliffe and Sekhon, Time-uniform,
nonparametric, nonasymptotic confidence sequences, Annals of Statistics 49, 2021, section 3.1). So at most one answer of
twenty, however often it is looked at, comes out otherwise on all samples, as far as the figure spreads normally. Where
one sample makes the noise alone there is no answer: then the figure without it is infinite.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from onnxlint_q.execute.variants.output_error import OutputError

MAY_ERR = 0.05
FEWEST = 4
"""No answer is clear on fewer samples."""
FIRST_LOOK, GROWTH = 32, 4


def looks(count: int) -> tuple[int, ...]:
    """After how many of the samples to look, the last time after all of them."""
    found = []
    look = FIRST_LOOK
    while look < count:
        found.append(look)
        look *= GROWTH
    return (*found, count)


def is_clear(error: OutputError, level_db: float) -> bool:
    """Whether these samples tell on which side of the level (dB) the worst output is."""
    without = error.worst_without_db
    number = len(without)
    if number < FEWEST or error.worst_db is None or not all(map(math.isfinite, without)):
        return False
    mean = math.fsum(without) / number
    deviation = math.sqrt((number - 1) / number * math.fsum((one - mean) ** 2 for one in without))
    epoch = math.floor(math.log2(number))
    quantile = student(MAY_ERR / (epoch * (epoch + 1)), number - 1)
    return abs(error.worst_db - level_db) > quantile * deviation


def student(outside: float, degrees: int) -> float:
    """The distance from the mean that Student's t exceeds, on either side together, with this probability.

    By the expansion of Cornish and Fisher (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5).
    """
    z = NormalDist().inv_cdf(1 - outside / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))
