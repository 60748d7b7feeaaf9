"""What a written file is worth: its outputs, its size, its time, and what of it is not in 8 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.analysis.recipe import Recipe
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.executable import as_stored, ending_at
from onnxlint_q.execute.latency import Latency, measure_latency
from onnxlint_q.execute.limits import Allowance, Limits
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.accuracy import Accuracy, scored_output
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.loading.external import stored_bytes
from onnxlint_q.proof.probing.plan import multiplications
from onnxlint_q.proof.recipe.share import shares
from onnxlint_q.workflow.mending.quantized import Milliseconds, Weight

_FILE = "file"


def errors_of_file(
    bench: Workbench, divided: Split, out: Path, labels: Sequence[int] | None, progress: Progress
) -> tuple[OutputError, Top1 | None]:
    """What the written file leaves of the float outputs, on samples that nothing was chosen on.

    Args:
        bench: the float network.
        divided: its samples.
        out: the written file.
        labels: classes of the samples, which are counted where an output holds scores.
        progress: told how many samples are done.
    """
    file = as_stored(read_model(out))
    if bench.measured.fronts:
        file = ending_at(file, [output.name for output in bench.measured.compared_outputs])
    scored = scored_output(bench.outputs)
    counts = Accuracy(labels, divided.first_of_verdict, scored) if labels and scored is not None else None
    known = Allowance(samples=divided.judged)
    errors = run_variants(bench, {_FILE: lambda: file}, divided.for_verdict, progress, known, counts)
    return errors[_FILE], counts.found.get(_FILE) if counts is not None else None


def weights_of(model: Model, out: Path, divided: Split, limits: Limits) -> tuple[Weight, Weight]:
    """What the float and the written model take: bytes, and milliseconds a sample where both run as deployed."""
    sizes = [stored_bytes(model.path), stored_bytes(out)]
    sample = next(iter(divided.for_ranges()))
    try:
        times = [*map(_milliseconds, measure_latency([as_stored(model), as_stored(read_model(out))], sample, limits))]
    except NotRunnableError:  # as it is deployed: integer kernels may refuse what the definition allows
        return Weight(sizes[0], None), Weight(sizes[1], None)
    return Weight(sizes[0], times[0]), Weight(sizes[1], times[1])


def shares_of(measured: Measured, divided: Split, recipe: Recipe) -> Mapping[str, float]:
    """Fraction of the multiplications of all layers by the format that they are done in."""
    shapes = {name: array.shape for name, array in next(iter(divided.for_ranges())).items()}
    experiment = Experiment(recipe.scheme, excluded=frozenset(recipe.excluded), wide=frozenset(recipe.wide))
    return shares(measured, multiplications(measured, shapes), experiment)


def left_in_float(measured: Measured, scheme: Scheme) -> Mapping[str, int]:
    """How many layers of each operator the scheme does not quantise."""
    layers = (layer.folded.layer for layer in measured.layers)
    return Counter(layer.op_type for layer in layers if not scheme.quantises(layer))


def _milliseconds(latency: Latency) -> Milliseconds:
    return Milliseconds(latency.median_ms, latency.low_ms, latency.high_ms, latency.runs)
