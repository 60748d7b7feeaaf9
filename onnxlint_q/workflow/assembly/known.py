"""What is known of models already: read before a run, and written after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from onnxlint_q.finding import Finding
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.own_findings import OWN_FINDINGS, UNUSED_SUPPRESSION
from onnxlint_q.judge.suppression import Baseline, KnownModel, Sorted, known_model, sort_out
from onnxlint_q.judge.suppression.baseline import name_from, read_baseline
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import ModelResult, SchemeResult

_OWN = frozenset(kind.code for kind in OWN_FINDINGS)


def with_baselines(configs: Sequence[Config], models: Sequence[Path]) -> tuple[Config, ...]:
    """The configurations with what their baselines know of the models; each file is read once.

    Raises:
        UsageError: a baseline cannot be read.
    """
    files = dict.fromkeys(config.baseline for config in configs if config.baseline is not None)
    read = {file: read_baseline(file) for file in files}
    return tuple(
        config if config.baseline is None else config.knowing(read[config.baseline], model)
        for config, model in zip(configs, models, strict=True)
    )


def sorted_out(record: Record, findings: Sequence[Finding], *, comparing: bool = False) -> Sorted:
    """The findings of a model, those that somebody knows of apart."""
    facts = record.facts
    return sort_out(
        findings,
        facts.model,
        facts.structure,
        record.rules,
        record.config.suppressing,
        calibrated=facts.observations is not None or comparing,
        comparing=comparing,
    )


def with_known(result: ModelResult, told: Sorted, config: Config, *, calibrated: bool) -> ModelResult:
    """The result with suppressed findings apart, and with the verdicts that a baseline accepts."""
    known = config.suppressing.known
    sorted_apart = replace(result, findings=told.kept, suppressed=told.suppressed)
    if known is None:
        return sorted_apart
    verdicts = {**known.verdicts, **_verdicts(result.schemes)}
    left = known_model((), {name: verdicts[name] for name in known.verdicts}, known.calibrated or calibrated)
    accepted = tuple(one.scheme for one in result.schemes if known.accepts(one.scheme, one.verdict))
    notes = tuple(
        f"{config.suppressing.baseline} holds this verdict, so it fails no build: {scheme} {known.verdicts[scheme]}"
        for scheme in accepted
    )
    return replace(
        sorted_apart,
        notes=(*result.notes, *notes),
        accepted=accepted,
        known=replace(left, findings=tuple(sorted(told.lines))),
    )


def once(results: Iterable[ModelResult]) -> tuple[ModelResult, ...]:
    """The results without what is said of a suppression that another model of the run uses, or that was said before."""
    told = tuple(results)
    settled = {one.suppression.where for result in told for one in result.suppressed if one.suppression is not None}
    kept = []
    for result in told:
        findings = [one for one in result.findings if not _is_unused_entry(one) or one.location.output not in settled]
        settled |= {one.location.output for one in findings if _is_unused_entry(one)}
        kept.append(replace(result, findings=tuple(findings)))
    return tuple(kept)


def after_run(baseline: Path, found: Iterable[tuple[Path, ModelResult]], *, prune: bool) -> Baseline:
    """A baseline after a run; models that the run did not see keep their lines while their files are there.

    Args:
        baseline: its file, which need not be there yet.
        found: files and what was found in them.
        prune: only take out what is gone, rather than put in all that was found.

    Raises:
        UsageError: the file is there and no baseline.
    """
    before = read_baseline(baseline).models if baseline.exists() else {}
    models = {name: known for name, known in before.items() if (baseline.parent / name).exists()}
    for path, result in found:
        known = result.known if prune else _known(result)
        if known is not None:
            models[name_from(baseline.parent, path)] = known
    return Baseline(models)


def _known(result: ModelResult) -> KnownModel:
    findings = (one for one in result.findings if one.code not in _OWN)
    return known_model(findings, _verdicts(result.schemes), result.calibration is not None)


def _verdicts(schemes: Iterable[SchemeResult]) -> dict[str, Verdict | None]:
    return {result.scheme: result.verdict for result in schemes}


def _is_unused_entry(finding: Finding) -> bool:
    return finding.code == UNUSED_SUPPRESSION.code and finding.location.output.startswith("[[suppress]]")
