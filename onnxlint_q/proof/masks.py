"""The trial of smaller masks: the float model with them beside the float model, and quantised whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxlint_q.analysis.experiment import UNCHANGED
from onnxlint_q.analysis.measured import measure
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.stream.watched import rounded_tensors
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.proof.whole import Whole, measure_schemes
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.mask_values import MaskValue, apply, fitted

SAME_DB = 80.0
"""A ten-thousandth of the output's amplitude: the float model is still the same."""


@dataclass(frozen=True, eq=False)
class MaskTrial:
    """What smaller masks do.

    Attributes:
        values: of the masks that were changed, by constant, negative.
        refused: why others were not, by constant.
        exact: what changing them leaves of the float outputs, on the samples of the verdict; None where nothing was
            changed.
        whole: the schemes with the changed masks, on the same samples; None where float outputs do not stay the same.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    exact: OutputError | None = None
    whole: Whole | None = None


def try_masks(
    bench: Workbench,
    wanted: Sequence[MaskValue],
    split: Split,
    progress: Progress = silent,
    labels: Sequence[int] | None = None,
) -> MaskTrial:
    """Change these masks, all of them together, and quantise the result under the calibrated schemes.

    Args:
        bench: calibrated.
        wanted: candidates; what was seen of the scores decides on their values.
        split: which samples ranges are taken from, and which others figures are measured on.
        progress: told how many runs are done.
        labels: the class of each sample of the source.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the changed model.
        DataError: a sample cannot be read.
    """
    assert bench.observations is not None
    seen = bench.observations.tensors
    ranges = {key: (known.low, known.high) for key, known in seen.items()}
    found = [fitted(one, ranges) for one in wanted]
    chosen = [one for one in found if not isinstance(one, Refusal)]
    refused = {one.tensor: one.reason for one in found if isinstance(one, Refusal)}
    if not chosen:
        return MaskTrial(refused=refused)
    values = {one.tensor: -one.value for one in chosen}
    changed = measure(apply(bench.measured.model, chosen), bench.measured.calibrated_schemes)
    mended = workbench(changed, bench.limits)
    variants = {UNCHANGED: lambda: mended.executable(UNCHANGED)}
    exact = run_variants(bench, variants, split.for_verdict, progress)[UNCHANGED]
    if not exact.has_signal or (exact.worst_db is not None and exact.worst_db < SAME_DB):
        return MaskTrial(values, refused, exact)
    # Nothing but what the masks go through has other values than before.
    way = {tensor for one in chosen for tensor in one.mask.way}
    again = observe(
        changed,
        split.source,
        split.calibrating,
        progress,
        [tensor for tensor in rounded_tensors(changed) if tensor in way],
        bench.limits,
    )
    observations = replace(bench.observations, tensors={**seen, **again.tensors}, non_finite=again.non_finite)
    whole = measure_schemes(mended.calibrated(observations, bench.observer), split, progress, labels)
    return MaskTrial(values, refused, exact, whole)
