"""Other codes for weights, looked for where weights make enough of the noise to be worth the time."""

from __future__ import annotations

import math
from dataclasses import replace

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.execute.correction.weight_rounding import measure_steps
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.rewrite.rounding.steps import Steps

WEIGHTS_SHARE = 0.5
"""Fraction of the noise at the worst output that weights alone have to make: without them it is 3 dB less."""


def worthwhile_steps(
    given: Workbench,
    bench: Workbench,
    experiment: Experiment,
    error: OutputError,
    split: Split,
    progress: Progress = silent,
) -> Steps:
    """How far codes are to be from the nearest ones, by layer; nothing where that is not worth the time.

    Args:
        given: the float model that outputs are held against.
        bench: the network that is quantised, its biases as they were.
        experiment: what is quantised, and how.
        error: that it leaves.
        split: samples that codes are found on, and those that the error was measured on.
        progress: told what is being done.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the weights alone.
        DataError: a sample cannot be read.
    """
    whole_db = error.worst_db
    if not error.has_signal or (whole_db is not None and whole_db <= 0):  # what is lost is more than weights
        return {}
    alone = replace(experiment, activations=frozenset())
    found = run_variants(given, {alone: lambda: bench.executable(alone)}, split.for_search, progress)
    weights_db = found[alone].worst_db
    if weights_db is None or (whole_db is not None and weights_db > whole_db - 10 * math.log10(WEIGHTS_SHARE)):
        return {}
    try:
        return measure_steps(bench, experiment, split.for_fitting, progress)
    except NotRunnableError:  # layer by layer: what passes between them is no tensor
        return {}
