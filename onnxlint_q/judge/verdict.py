"""Does the network survive a scheme, end to end?

Each output is judged by what it holds: class scores by how often the largest class stays what it was, everything else
by its SQNR. The verdict on the model is that on its worst output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from onnxlint_q.execute.variants.output_error import OutputError

GAIN_DB = 1.0
"""What a remedy gains at least; nobody would notice less."""


class Verdict(StrEnum):
    """What becomes of the network under a scheme."""

    SURVIVES = "survives"
    DEGRADES = "degrades"
    BREAKS = "breaks"

    @property
    def rank(self) -> int:
        """0 for breaks, 1 for degrades, 2 for survives."""
        return ("breaks", "degrades", "survives").index(self.value)


Judge = Callable[[OutputError], Verdict | None]
"""The verdict on what a run left at the outputs; None where it could judge none."""


@dataclass(frozen=True, slots=True)
class VerdictLevels:
    """Where the verdicts change.

    The defaults are those of a classifier; detectors and regressors usually need `survives_db` well above 20.

    Attributes:
        breaks_db, survives_db: output SQNR in dB.
        breaks_agreement, survives_agreement: fraction of samples on which top-1 agrees with float.
    """

    breaks_db: float = 5.0
    survives_db: float = 14.0
    breaks_agreement: float = 0.60
    survives_agreement: float = 0.90

    def verdict(self, sqnr_db: float | None, agreement: float | None = None) -> Verdict:
        """The verdict on one output.

        Args:
            sqnr_db: in dB, None for a perfect match.
            agreement: of class scores, top-1 with float. Where it is known it alone decides: scores may lose much and
                keep their order, or lose little and change it.
        """
        if agreement is not None:
            return _between(agreement, self.breaks_agreement, self.survives_agreement)
        return Verdict.SURVIVES if sqnr_db is None else _between(sqnr_db, self.breaks_db, self.survives_db)

    def crossed(self, low: float, high: float) -> tuple[float, ...]:
        """The levels of agreement that lie within an interval, so that it does not decide between two verdicts."""
        return tuple(level for level in (self.breaks_agreement, self.survives_agreement) if low <= level <= high)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict on a model by those on its outputs; None where none was judged."""
    return min(verdicts, key=lambda verdict: verdict.rank, default=None)


def _between(value: float, breaks: float, survives: float) -> Verdict:
    if value < breaks:
        return Verdict.BREAKS
    return Verdict.SURVIVES if value > survives else Verdict.DEGRADES
