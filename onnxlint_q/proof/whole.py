"""The end-to-end figure of each scheme."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.workbench import Workbench


@dataclass(frozen=True, eq=False)
class Whole:
    """What quantising everything did to the outputs.

    Attributes:
        errors: by whole scheme.
        held_out: samples that ranges were not taken from; 0 if it had to be the same ones.
    """

    errors: Errors
    held_out: int = 0


def measure_schemes(bench: Workbench, source: Source, count: int, progress: Progress = silent) -> Whole:
    """Run every scheme that quantises anything as a whole.

    On `count` samples behind those that ranges were taken from, where the source has them, because ranges fit the
    samples that they were taken from.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the folded model.
        DataError: a sample cannot be read.
    """
    assert bench.observations is not None
    calibrated = bench.observations.samples
    unseen = partial(_samples, bench, source, count, calibrated)
    more = next(unseen(), None) is not None
    whole = [Experiment(scheme) for scheme in bench.measured.schemes if bench.can_run(Experiment(scheme))]
    errors = run_experiments(
        bench, whole, unseen if more else partial(_samples, bench, source, calibrated, 0), progress
    )
    return Whole(errors, max((error.samples for error in errors.values()), default=0) if more else 0)


def _samples(bench: Workbench, source: Source, count: int, skip: int) -> Iterator[Sample]:
    return source.take(bench.measured.model.inputs, count, skip)
