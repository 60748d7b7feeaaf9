"""What each tensor alone costs the output under a scheme that the network does not survive: plain values.

A run fills them, rules and reports read them. Noise of one tensor is its power over that of the signal at the output,

    noise = 10^(-sqnr_db / 10)

and a share is that of one tensor in the sum over all of them, each quantised alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from onnxlint_q.analysis.number_formats import decibel
from onnxlint_q.finding import Subject

MOST = 0.9
"""The fraction of the noise whose causes are named."""
# Half of the noise amplitude is still a part of what there is; below it, something else made it.
_UNEXPLAINED_DB = 6.0
# A tenth of the noise power.
_TENTH_DB = 10.0


@dataclass(frozen=True, slots=True)
class TensorCost:
    """One weight or one activation, quantised alone.

    Attributes:
        tensor: for a weight the key of its layer, else the activation.
        kind: which of the two it is.
        scheme: name of the scheme that it is quantised under.
        sqnr_db: at the output; infinite where the outputs stay identical.
        samples: how many it was measured on.
    """

    tensor: str
    kind: Subject
    scheme: str
    sqnr_db: float
    samples: int

    @property
    def noise(self) -> float:
        """Noise power at the output over the signal's."""
        return float(10 ** (-self.sqnr_db / 10))


@dataclass(frozen=True)
class SchemeCosts:
    """All tensors under one scheme.

    Attributes:
        scheme: its name.
        whole_db: SQNR at the output (dB) with everything quantised.
        tensors: each alone, in data order, the weight of a layer before its result.
        missing: how many were not measured.
        fitted_db: the same as `whole_db` on the samples that ranges were taken from, as the tensors alone; None where
            that was not needed to explain it, or `whole_db` is of these samples.
    """

    scheme: str
    whole_db: float
    tensors: tuple[TensorCost, ...]
    missing: int = 0
    fitted_db: float | None = None

    @cached_property
    def noise(self) -> float:
        """Sum of the noise of all tensors; where some are not known, at least that of the whole."""
        known = math.fsum(cost.noise for cost in self.tensors)
        return max(known, float(10 ** (-self.whole_db / 10))) if self.missing else known

    @property
    def matters_db(self) -> float:
        """SQNR (dB) under which a tensor alone makes a tenth of the loss or more."""
        return self.whole_db + _TENTH_DB

    @property
    def together_db(self) -> float:
        """The SQNR (dB) that the sum of their noise would leave; infinite where there is none."""
        left = decibel(1.0, self.noise)
        return math.inf if left is None else left

    @property
    def explained(self) -> bool:
        """Whether the tensors, each alone, make up for the loss of the whole, to half of its amplitude."""
        return self.together_db < self.whole_db + _UNEXPLAINED_DB

    @property
    def ill_fitted(self) -> bool:
        """Whether most of the loss is that ranges do not hold for other samples than those they were taken from."""
        return self.fitted_db is not None and self.fitted_db > self.whole_db + _UNEXPLAINED_DB

    def share(self, cost: TensorCost) -> float:
        """Fraction of the summed noise that one of the tensors makes."""
        return cost.noise / self.noise if self.noise else 0.0

    def most(self, fraction: float = MOST) -> tuple[TensorCost, ...]:
        """The smallest set that makes at least this fraction of the summed noise, the most costly first."""
        found: list[TensorCost] = []
        held = 0.0
        for cost in sorted(self.tensors, key=lambda cost: cost.sqnr_db):
            if held >= fraction * self.noise:
                break
            found.append(cost)
            held += cost.noise
        return tuple(found)
