"""Top-1 of variants beside the float model, where the class of each sample is known."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.analysis.outputs.output_kind import Holds, Output
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.labels import label_of

Array = npt.NDArray[Any]
A_CLASS_EACH = "gives a class for every position, but a label is for a whole sample"


class Accuracy:
    """Counts what each variant has right; told of each run, as `run_variants` tells its watcher.

    Attributes:
        found: by variant, those that gave scores; none where there is a problem.
        problem: why the labels do not fit what the model gives; empty where they do.

    Args:
        labels: of all samples of the source.
        first: number of the sample that comes first.
        scored: place and kind of the output that holds the class scores.
    """

    def __init__(self, labels: Sequence[int], first: int, scored: tuple[int, Output]) -> None:
        self._labels = labels
        self._first = first
        self._place, self._output = scored
        self._found: dict[Hashable, Top1] = {}
        self.problem = ""

    @property
    def found(self) -> Mapping[Hashable, Top1]:
        """Counts so far."""
        return {} if self.problem else self._found

    def __call__(self, variant: Hashable, number: int, exact: Sequence[Array], other: Sequence[Array]) -> None:
        """Count one sample; labels that do not fit cost the count and not the run."""
        found = [self._output.scores(np.nan_to_num(values[self._place])) for values in (exact, other)]
        scores, others = found
        if self.problem or scores is None or others is None or others.shape != scores.shape:
            return
        if len(scores) != len(exact[self._place]):
            self.problem = f"output {self._output.name!r} {A_CLASS_EACH}"
            return
        try:
            label = label_of(self._labels, self._first + number, scores.shape[1])
        except DataError as error:
            self.problem = str(error)
            return
        self._found[variant] = self._found.get(variant, Top1()).with_sample(scores, others, label)


def scored_output(outputs: Sequence[Output]) -> tuple[int, Output] | None:
    """Place and kind of the one output that holds class scores; None where there is none, or several."""
    scored = [(place, output) for place, output in enumerate(outputs) if output.holds is Holds.CLASS_SCORES]
    return scored[0] if len(scored) == 1 else None
