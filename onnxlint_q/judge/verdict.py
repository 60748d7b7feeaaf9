"""Does the network survive a scheme, end to end?

Each output is judged by what it holds: class scores by how often the largest class stays what it was, everything else
by its SQNR. The verdict on the model is that on its worst output.

What is not measured has a chance for each verdict. Where none is likely enough, it is `uncertain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from onnxlint_q.analysis.intervals import confidence_below

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.output_error import OutputError
    from onnxlint_q.forecast.expected.level import Level

GAIN_DB = 1.0
"""What a remedy gains at least; nobody would notice less."""
LIKELY = 0.60
"""The chance that a verdict has at least; below it, it is `uncertain`."""


class Verdict(StrEnum):
    """What becomes of the network under a scheme."""

    SURVIVES = "survives"
    DEGRADES = "degrades"
    BREAKS = "breaks"
    UNCERTAIN = "uncertain"
    """None of the three is likely enough to be named. No run on data comes to it."""

    @property
    def decided(self) -> bool:
        """Whether it is one of the three that say what becomes of the network."""
        return self is not Verdict.UNCERTAIN

    @property
    def rank(self) -> int:
        """0 for breaks, 1 for degrades, 2 for survives.

        Raises:
            ValueError: it is not decided.
        """
        return ("breaks", "degrades", "survives").index(self.value)


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely each verdict is; together 1."""

    survives: float
    degrades: float
    breaks: float

    @classmethod
    def certain(cls, verdict: Verdict) -> Chances:
        """One verdict for sure."""
        return cls(*(float(verdict is one) for one in (Verdict.SURVIVES, Verdict.DEGRADES, Verdict.BREAKS)))

    def of(self, verdict: Verdict) -> float:
        """The chance of one verdict."""
        return {Verdict.SURVIVES: self.survives, Verdict.DEGRADES: self.degrades, Verdict.BREAKS: self.breaks}[verdict]

    @property
    def likeliest(self) -> Verdict:
        """The likeliest verdict; of equals the worse one."""
        return max((Verdict.BREAKS, Verdict.DEGRADES, Verdict.SURVIVES), key=self.of)

    @property
    def verdict(self) -> Verdict:
        """The likeliest verdict where it is likely enough, else that nothing is certain."""
        return self.likeliest if self.of(self.likeliest) >= LIKELY else Verdict.UNCERTAIN


Judge: TypeAlias = "Callable[[OutputError], Verdict | None]"
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

    def chances(self, level: Level) -> Chances:
        """How likely each verdict is on one output, by what a run is expected to measure."""
        if level.classes is not None:
            below = level.below_agreement
            breaks, lost = below(self.breaks_agreement), below(self.survives_agreement)
        else:
            breaks, lost = level.below_db(self.breaks_db), level.below_db(self.survives_db)
        return _chances(breaks, lost)

    def chances_of(self, outputs: Iterable[Level]) -> Chances | None:
        """How likely each verdict is on a model, by what a run is expected to measure at each of its outputs."""
        return worst_chances(map(self.chances, outputs))

    def measured_chances(self, agreement: float, rows: float) -> Chances:
        """How likely each verdict is on all that such samples stand for, where on so many rows the top-1 agreed."""
        agreed = agreement * rows
        breaks = confidence_below(agreed, rows, self.breaks_agreement)
        return _chances(breaks, confidence_below(agreed, rows, self.survives_agreement))

    def crossed(self, low: float, high: float) -> tuple[float, ...]:
        """The levels of agreement that lie within an interval, so that it does not decide between two verdicts."""
        return tuple(level for level in (self.breaks_agreement, self.survives_agreement) if low <= level <= high)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict on a model by those on its outputs; None where none was judged."""
    return min(verdicts, key=lambda verdict: verdict.rank, default=None)


def _chances(breaks: float, lost: float) -> Chances:
    """By the chances to lie below the one level and below the other."""
    return Chances(survives=1 - max(lost, breaks), degrades=max(lost - breaks, 0.0), breaks=breaks)


def worst_chances(outputs: Iterable[Chances]) -> Chances | None:
    """How likely each verdict is on a model, by those on its outputs; None where none was judged.

    What is unknown (ranges, how noise adds up) is the same for all outputs of a network, so their errors are taken to
    go together: the model breaks with the largest of their chances, and survives with the smallest.
    """
    known = list(outputs)
    if not known:
        return None
    breaks, survives = max(one.breaks for one in known), min(one.survives for one in known)
    return Chances(survives, max(1 - survives - breaks, 0.0), breaks)


def _between(value: float, breaks: float, survives: float) -> Verdict:
    if value < breaks:
        return Verdict.BREAKS
    return Verdict.SURVIVES if value > survives else Verdict.DEGRADES
