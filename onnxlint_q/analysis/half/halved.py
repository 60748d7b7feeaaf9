"""What a run in simulated float16 showed: plain values that a run fills and rules read."""

from __future__ import annotations

from dataclasses import dataclass

from onnxlint_q.analysis.half.hazards import Hazard


@dataclass(frozen=True, slots=True)
class HalfTrial:
    """Hazards of one kind, with everything else that float16 cannot hold left in float32.

    Attributes:
        hazards: in data order, whose nodes are of the same operators.
        rounded_db: SQNR (dB) of the worst output with these in float16; None where nothing is lost.
        kept_db: with their nodes in float32, too.
        clamped_db: with these in float16, and constants that are too large at the largest value of float16, as
            converters write them; infinite where nothing is lost, None where no constant is too large.
    """

    hazards: tuple[Hazard, ...]
    rounded_db: float | None
    kept_db: float | None
    clamped_db: float | None = None

    @property
    def share(self) -> float:
        """Fraction of the noise at the output that is spared with their nodes in float32."""
        if self.rounded_db is None:
            return 0.0
        return 1.0 if self.kept_db is None else max(0.0, 1 - 10 ** ((self.rounded_db - self.kept_db) / 10))


@dataclass(frozen=True, slots=True)
class Halved:
    """One network as if each tensor were stored as float16.

    Attributes:
        samples: how many were run.
        synthetic: they are made up.
        output_db: SQNR (dB) of the worst output against float32; None where nothing is lost.
        trials: by kind of hazard.
    """

    samples: int
    synthetic: bool
    output_db: float | None
    trials: tuple[HalfTrial, ...]
