"""What `fix` does to a model, as the values that reports read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.workflow.assembly.outputs import result_of_run
from onnxlint_q.workflow.results import Basis, FixPreview
from onnxlint_q.workflow.scheme_result import SchemeResult

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.experiment_runs import Errors
    from onnxlint_q.proof.mending.transaction import Mended


def preview(mended: Mended, levels: VerdictLevels) -> FixPreview:
    """The rewrites that were kept, and what they do to each scheme."""
    synthetic = mended.bench.observations is not None and mended.bench.observations.synthetic
    kept = [step for step in mended.steps if step.kept]
    return FixPreview(
        rewrites=tuple(step.rewrite.name for step in kept),
        places=sum(len(step.kept) for step in kept),
        float_sqnr_db=mended.exact.worst_db if mended.exact is not None else None,
        before=scheme_results(mended.given, levels, synthetic=synthetic),
        after=scheme_results(mended.errors, levels, synthetic=synthetic),
    )


def scheme_results(errors: Errors, levels: VerdictLevels, *, synthetic: bool) -> tuple[SchemeResult, ...]:
    """The verdict on each whole scheme that was run, on data or on synthetic inputs."""
    basis = Basis.PROBE if synthetic else Basis.MEASURED
    return tuple(
        result_of_run(experiment.scheme.name, error, basis, levels, by_class=not synthetic)
        for experiment, error in errors.items()
    )
