"""What `quantize` is asked for, and the files that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxlint_q.errors import UsageError
from onnxlint_q.execute.limits import USUAL, Asked
from onnxlint_q.graph.loading.save import DATA_ENDING
from onnxlint_q.proof.recipe.goal import MOST_FLOAT
from onnxlint_q.workflow.mending.mend import Selection
from onnxlint_q.workflow.record import DataRequest

RECIPE_ENDING, FLOAT_ENDING = ".recipe.json", ".float.onnx"
"""What takes the place of `.onnx` in the names of files that are written beside the model."""


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """What is to be made of a model.

    Attributes:
        out: the file to write.
        data: calibration data; None for ranges and figures of synthetic inputs.
        min_db: SQNR (dB) that the worst output has to keep; None for no such goal.
        min_agreement: fraction of samples that have to keep the float model's top-1; None for no such goal.
        max_float: fraction of the multiplications that may be done in float or in 16 bits.
        recipe: the file of a recipe to follow instead of a search.
        keep_float: write the float model that is quantised, too.
        selection: which rewrites are to be tried first.
        input_shapes: shapes that inputs are to have, by name.
        fresh: a process apart is a fresh interpreter, never a fork.
        asked: what it may take.

    Raises:
        UsageError: a goal cannot be reached by any model, or not be told from synthetic inputs.
    """

    out: Path
    data: DataRequest | None = None
    min_db: float | None = None
    min_agreement: float | None = None
    max_float: float = MOST_FLOAT
    recipe: Path | None = None
    keep_float: bool = False
    selection: Selection = field(default_factory=Selection)
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fresh: bool = False
    asked: Asked = USUAL

    def __post_init__(self) -> None:
        if self.min_agreement is not None and not 0 < self.min_agreement <= 1:
            raise UsageError(f"min-agreement {self.min_agreement:g}: give a fraction from 0 to 1, as 0.98")
        if self.min_agreement is not None and self.is_synthetic:
            raise UsageError("min-agreement: synthetic inputs have no class to keep; give samples with --calibrate")
        if self.min_db is not None and not np.isfinite(self.min_db):
            raise UsageError(f"min-sqnr {self.min_db:g}: give a number of decibels, as 20")
        if not 0 <= self.max_float <= 1:
            raise UsageError(f"max-float {self.max_float:g}: give a fraction from 0 to 1, as 0.05")

    @property
    def is_synthetic(self) -> bool:
        """Whether all samples are made up."""
        return self.data is None or self.data.source.synthetic

    @property
    def goal(self) -> str:
        """What has to be reached, in words."""
        said = [f"at least {self.min_db:g} dB at the worst output"] if self.min_db is not None else []
        if self.min_agreement is not None:
            said.append(f"the same top class for at least {100 * self.min_agreement:g} % of the samples")
        return " and ".join(said) or "the model survives"


def written_beside(out: Path, *, keep_float: bool) -> tuple[Path, ...]:
    """Every file that is written for a model of this name, the model first."""
    names = [out.name, f"{out.name}{DATA_ENDING}", f"{out.stem}{RECIPE_ENDING}"]
    floats = [f"{out.stem}{FLOAT_ENDING}", f"{out.stem}{FLOAT_ENDING}{DATA_ENDING}"]
    return tuple(out.with_name(name) for name in (*names, *(floats if keep_float else ())))
