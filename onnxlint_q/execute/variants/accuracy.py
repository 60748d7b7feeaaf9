"""Top-1 of variants beside the float model, where the class of each sample is known."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.analysis.output_kind import holds_scores
from onnxlint_q.execute.data.labels import label_of

Array = npt.NDArray[Any]


class Accuracy:
    """Counts what each variant has right; told of each run, as `run_variants` tells its watcher.

    Attributes:
        found: by variant, those that gave scores.

    Args:
        labels: of all samples of the source.
        first: number of the sample that comes first.
    """

    def __init__(self, labels: Sequence[int], first: int) -> None:
        self._labels = labels
        self._first = first
        self._found: dict[Hashable, Top1] = {}

    @property
    def found(self) -> Mapping[Hashable, Top1]:
        """Counts so far."""
        return self._found

    def __call__(self, variant: Hashable, number: int, exact: Sequence[Array], other: Sequence[Array]) -> None:
        """Count one sample.

        Raises:
            DataError: it has no class, or one that the model does not have.
        """
        if not holds_scores(exact[0].shape) or other[0].shape != exact[0].shape:
            return
        scores, others = (np.nan_to_num(found[0].reshape(exact[0].shape[:2])) for found in (exact, other))
        label = label_of(self._labels, self._first + number, scores.shape[1])
        self._found[variant] = self._found.get(variant, Top1()).with_sample(scores, others, label)
