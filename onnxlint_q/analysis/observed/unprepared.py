"""What a model loses or gains where it is quantised without the usual preparation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unprepared:
    """One scheme, measured both ways on the same samples.

    Attributes:
        scheme: its name.
        sqnr_db: at the worst output of the file that ONNX Runtime's `quantize_static` makes of the model as it is.
        prepared_db: at the worst output of the one that it makes after `quant_pre_process`.
        samples: how many both figures are from; None for all that the verdict is from.
    """

    scheme: str
    sqnr_db: float
    prepared_db: float
    samples: int | None = None

    @property
    def lost_db(self) -> float:
        """What leaving the preparation out costs; negative where it helps."""
        return self.prepared_db - self.sqnr_db
