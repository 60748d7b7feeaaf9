"""What a quantised model has to reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.judge.verdict import Judge, Verdict


@dataclass(frozen=True, slots=True)
class Goal:
    """What counts as good enough.

    Attributes:
        judge: the verdict on an error; where nothing else is asked for, the model has to survive.
        min_db: SQNR (dB) of the worst output.
        min_agreement: fraction of samples with the float model's top-1, of the worst output that holds class scores.
    """

    judge: Judge
    min_db: float | None = None
    min_agreement: float | None = None

    def reached(self, error: OutputError) -> bool:
        """Whether an error is small enough."""
        if not error.has_signal:
            return False
        if self.min_db is None and self.min_agreement is None:
            return self.judge(error) is Verdict.SURVIVES
        worst = math.inf if error.worst_db is None else error.worst_db
        enough = self.min_db is None or worst >= self.min_db
        return enough and (self.min_agreement is None or (error.agreement or 0.0) >= self.min_agreement)

    def verdict(self, error: OutputError) -> Verdict:
        """The goal as a verdict, for searches that look for what survives."""
        return Verdict.SURVIVES if self.reached(error) else Verdict.DEGRADES
