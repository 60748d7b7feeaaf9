"""Run experiments beside the float model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, Shapes
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.layer_graphs import groups, run_together
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples, Watch, run_variants
from onnxlint_q.execute.variants.workbench import Workbench

Errors = Mapping[Experiment, OutputError]


def run_experiments(
    bench: Workbench,
    experiments: Iterable[Experiment],
    samples: Samples,
    progress: Progress = silent,
    allowance: Allowance | None = None,
    watch: Watch | None = None,
) -> dict[Experiment, OutputError]:
    """Error of each experiment at the outputs.

    Experiments that come to the same run once. Those on single tensors share graphs where the network allows it, all
    others run as models of their own. What an allowance of time does not reach is left out.

    Args:
        bench: the network; it can run all of the experiments.
        experiments: what to run.
        samples: starts a fresh pass over the same samples each time it is called.
        progress: told how many experiments are done.
        allowance: of time; without it every experiment runs on every sample. One that knows how many samples there are
            lets progress be told between two experiments.
        watch: told of each run of a model of its own, by the essence of the experiment.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read.
    """
    essences = {experiment: experiment.essence for experiment in experiments}
    distinct = list(dict.fromkeys(essences.values()))
    allowance = allowance or Allowance()
    single = [experiment for experiment in distinct if bench.starts_at(experiment) is not None]
    alone = [experiment for experiment in distinct if bench.starts_at(experiment) is None]
    errors: dict[Experiment, OutputError] = {}
    shapes = _shapes(samples) if single else {}
    parts = list(groups(bench, single, shapes))
    for number, group in enumerate(parts):
        tick = partial(_tell, progress, len(errors), len(group), len(distinct))
        tick(0.0)
        if allowance.left <= allowance.least:
            break
        try:
            share = allowance.share(len(parts) - number + bool(alone))
            errors |= run_together(bench, group, samples, share, tick, shapes)
        except (MixesBatchError, NotRunnableError):
            alone += group
    variants = {experiment: partial(bench.executable, experiment) for experiment in alone}
    errors |= run_variants(bench, variants, samples, progress, allowance, watch)
    return {experiment: errors[essence] for experiment, essence in essences.items() if essence in errors}


def _tell(progress: Progress, done: int, now: int, total: int, fraction: float) -> None:
    """That so much of what runs now is done: all of it runs side by side, sample after sample."""
    progress("tensor by tensor", done + int(fraction * now), total)


def _shapes(samples: Samples) -> Shapes:
    """Those of the first sample; none where there is no sample."""
    return {name: array.shape for name, array in next(samples(), {}).items()}
