"""The model quantised as it is, without `quant_pre_process`, beside the usual way, on the same samples.

What the quantiser makes of a graph that was not prepared hangs on its treatment of each odd node, so ONNX Runtime's
own is run instead of a simulation. That takes a calibration of its own, and only models get it whose graph the
preparation changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.observed.unprepared import Unprepared
from onnxlint_q.analysis.preparation import preparation
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, Scheme
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.executable import Executable, as_stored
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.quantiser import quantised
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench


def can_differ(bench: Workbench) -> bool:
    """Whether the preparation changes anything that is judged, and ranges are taken as the quantiser takes them."""
    whole = not bench.measured.fronts  # the quantiser's file has the model's own outputs
    return whole and bench.observer == DEFAULT_OBSERVER and bool(_schemes(bench))


def measure_unprepared(
    bench: Workbench, split: Split, prepared: Errors, progress: Progress = silent, most: int | None = None
) -> tuple[Unprepared, ...]:
    """Both ways under each plain int8 scheme that is judged and differs; without one where a way gives no figure.

    Args:
        bench: the network.
        split: its samples.
        prepared: what the usual way leaves of the outputs, by whole scheme, on those that were held out.
        progress: told how many schemes are done.
        most: samples of either part that are used at most; None for all. Of fewer both ways get their ranges, and are
            judged on as many behind them.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the model.
        DataError: a sample cannot be read.
    """
    schemes = _schemes(bench)
    few, fewer = split.at_most(most) if most is not None else split, None
    if few.used < split.used:
        fewer = few.held_out or few.calibrating
        seen = observe(bench.measured, split.source, few.calibrating, progress, limits=bench.limits)
        bench, split = bench.calibrated(seen, bench.observer), few
        known = Allowance(samples=split.judged)
        prepared = run_experiments(bench, map(Experiment, schemes), split.for_verdict, progress, known)
    found = []
    with TemporaryDirectory() as folder:
        for done, scheme in enumerate(schemes):
            progress("quantising as it is", done, len(schemes))
            both = _both(bench, split, scheme, prepared.get(Experiment(scheme)), Path(folder) / "ranges.json")
            if both is not None:
                found.append(replace(both, samples=fewer))
    return tuple(found)


def _schemes(bench: Workbench) -> list[Scheme]:
    judged = (scheme for scheme in DEFAULT_SCHEMES if scheme in bench.measured.schemes)
    able = (scheme for scheme in judged if bench.can_run(Experiment(scheme)))
    return [scheme for scheme in able if preparation(bench.measured, scheme)]


def _both(
    bench: Workbench, split: Split, scheme: Scheme, prepared: OutputError | None, ranges: Path
) -> Unprepared | None:
    def made() -> Executable:
        model, samples = as_stored(bench.measured.model), split.for_ranges()
        return quantised(model, samples, per_channel=scheme.per_channel, ranges=ranges)

    try:
        (unprepared,) = run_variants(bench, {scheme: made}, split.for_verdict).values()
    except NotRunnableError:
        return None  # there is no such file to warn of
    if prepared is None or unprepared.worst_db is None or prepared.worst_db is None:
        return None
    return Unprepared(scheme.name, unprepared.worst_db, prepared.worst_db)
