"""The end-to-end figure of each scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.accuracy import Accuracy, scored_output
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.workbench import Workbench


@dataclass(frozen=True, eq=False)
class Whole:
    """What quantising everything did to the outputs.

    Attributes:
        errors: by whole scheme.
        held_out: samples that ranges were not taken from; 0 if it had to be the same ones.
        top1: how often whole schemes and the float model are right on those, where there are labels that fit.
        problem: why they do not fit; empty where they do.
    """

    errors: Errors
    held_out: int = 0
    top1: Mapping[Experiment, Top1] = field(default_factory=dict)
    problem: str = ""


def measure_schemes(
    bench: Workbench, split: Split, progress: Progress = silent, labels: Sequence[int] | None = None
) -> Whole:
    """Run every scheme that quantises anything as a whole, on the samples that were held out.

    Args:
        bench: the network, with the ranges of its activations.
        split: which samples those are.
        progress: told how many runs are done.
        labels: the class of each sample of the source.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the folded model.
        DataError: a sample cannot be read.
    """
    whole = [Experiment(scheme) for scheme in bench.measured.schemes if bench.can_run(Experiment(scheme))]
    scored = scored_output(bench.outputs)
    counts = Accuracy(labels, split.first_of_verdict, scored) if labels and scored is not None else None
    errors = run_experiments(bench, whole, split.for_verdict, progress, Allowance(samples=split.judged), counts)
    right = counts.found if counts is not None else {}
    return Whole(
        errors,
        held_out=max((error.samples for error in errors.values()), default=0) if split.held_out else 0,
        top1={experiment: right[experiment.essence] for experiment in whole if experiment.essence in right},
        problem=counts.problem if counts is not None else "",
    )
