"""How far two runs may differ that add up the same numbers in another order.

Kernels sum in an order of their own, by processor, threads and batch. So a float comes out a few units in the last
place apart, by `2**-21` of its size: eight units, four of a sum in sixteen lanes and as many from the layers before.
Between ONNX Runtime's kernels with and without graph optimisation the fixtures show up to six. What follows for the
figures of a quantised network:

**Where nothing is rounded to codes** each run has that error beside signal and noise. With the noise at
`10**(-sqnr/20)` of the signal its amplitude changes by the fraction `r = 2**-21 (1 + 10**(sqnr/20))` or less.

**Where values are rounded to codes**, one next to a tie goes to either side. It misses its code by half a step then as
before, but what it passes on changes by a whole one. Of n values with steps s the noise has power `n s^2 / 12` (Widrow
and Kollar, Quantization Noise, 2008); k flipped codes add a vector of length `sqrt(k) s` to it, so that the amplitude
changes by the fraction `r = sqrt(12 k / n)` or less. Flipped values count as much at the output as the others, because
a tie does not know where it stands.

Either way the figure moves by `20 log10(1 + r)` dB or less, and a power by the factor `(1 + r)^2` or less.

**How many flip.** A value is a sum of terms that add up to about its deviation, a sixth of 255 steps. It is then known
to `42 * 2**-21` steps and flips within that of a tie on either side: one in 25,000. (Counted on the fixtures: one in
150,000 where weights change by a unit in the last place, one in 250,000 where kernels do.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from statistics import median
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

FLOAT_ERROR = 2.0**-21
FLIPPED = 2 * 255 / 6 * FLOAT_ERROR
# Codes of a whole small network, for figures that all of its tensors have a part in.
NETWORK = 10_000
# Flips are rare, so most figures of a table show none; this is far below what one does and above what floats do.
_HARDLY = 0.01


def flips(codes: int) -> int:
    """So many of `codes` may differ between two runs: the 99.9 % quantile of a Poisson distribution."""
    mean = FLIPPED * codes
    count, term = 0, math.exp(-mean)
    below = term
    while below < 0.999:
        count += 1
        term *= mean / count
        below += term
    return count


def decibels(sqnr_db: float, codes: int = 0) -> float:
    """By how many dB such a figure may differ between two runs that round `codes` values on the way."""
    in_floats = FLOAT_ERROR * (1 + 10 ** (sqnr_db / 20))
    in_codes = math.sqrt(12 * flips(codes) / codes) if codes else 0.0
    return 20 * math.log10(1 + in_floats + in_codes)


def assert_alike(
    figures: Mapping[Key, float | None], others: Mapping[Key, float | None], codes: Mapping[Key, int] | int = 0
) -> None:
    """Two tables of dB that differ by no more than the order of summation, and at most places by not even that."""
    assert figures.keys() == others.keys() and figures
    apart = []
    for key, figure in figures.items():
        other = others[key]
        if figure is None or other is None or math.isinf(figure):
            assert figure == other, key
            continue
        apart.append(abs(figure - other))
        assert apart[-1] <= decibels(figure, codes if isinstance(codes, int) else codes[key]), (key, figure, other)
    assert median(apart or [0.0]) < _HARDLY
