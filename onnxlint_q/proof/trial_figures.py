"""What calibrating again on other samples showed: plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrialFigure:
    """One scheme with the ranges of one observer, over several calibrations on disjoint subsets of the data.

    Attributes:
        samples: of each subset.
        output_sqnr_db, deviation_db: mean and standard deviation of the output SQNR; None where there is none.
        agreement, agreement_deviation: the same of the fraction of samples whose top-1 agrees with float.
    """

    scheme: str
    observer: str
    samples: int
    output_sqnr_db: float | None
    deviation_db: float | None
    agreement: float | None = None
    agreement_deviation: float | None = None


@dataclass(frozen=True, slots=True)
class Trials:
    """What calibrating again on other samples changes; all figures on the same held-out samples.

    Attributes:
        count: how many disjoint random subsets.
        samples: of each of them.
        held_out: samples that all figures were measured on.
        observers: one figure a scheme and observer, at the full size of the subsets.
        curve: one figure a scheme and size, with the observer of the run, sizes ascending.
        sentences: what follows, in words.
    """

    count: int
    samples: int
    held_out: int
    observers: tuple[TrialFigure, ...]
    curve: tuple[TrialFigure, ...]
    sentences: tuple[str, ...] = ()
