"""Remedies of the schemes that do not survive: tried once for the model, and what findings then say of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, PER_CHANNEL_OPSET, Scheme
from onnxlint_q.calls import exclude_option, quantize_static_call
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.finding import Finding
from onnxlint_q.judge.advice.quantizer_options import scheme_options
from onnxlint_q.judge.verdict import Judge
from onnxlint_q.proof.budget.spending import first
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import JointRemedy, Verdict

if TYPE_CHECKING:
    from onnxlint_q.proof.joint_remedy import JointTrial


def failing(record: Record, judge: Judge) -> tuple[Scheme, ...]:
    """The schemes that were measured not to survive, and that ONNX Runtime has a call for."""
    errors = record.whole.errors if record.whole is not None else {}
    return tuple(
        scheme
        for scheme in record.facts.schemes
        if scheme_options(scheme) is not None
        and (error := errors.get(Experiment(scheme))) is not None
        and judge(error) in (Verdict.BREAKS, Verdict.DEGRADES)
    )


def try_joint_remedies(
    record: Record, schemes: Sequence[Scheme], judge: Judge, progress: Progress = silent
) -> Mapping[str, JointTrial]:
    """By scheme, what leaving nodes in float together does, on the samples of the verdicts.

    Each search takes its part of the budget; what its result takes on those samples is kept for it.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    from onnxlint_q.proof.joint_remedy import FEWEST, try_joint_remedy

    bench, whole, split = record.bench, record.whole, record.split
    if not schemes:
        return {}
    assert bench is not None and whole is not None and split is not None
    costs, spending = record.costs.errors if record.costs is not None else {}, record.spending
    few = spending.few(split.calibrating)
    searched = partial(first, split.for_ranges, few)
    found: dict[str, JointTrial] = {}
    for done, scheme in enumerate(schemes):
        left = len(schemes) - done
        bounded = spending.part(1 / left, reserved=left * spending.pass_seconds, fewest=FEWEST, samples=few)
        found[scheme.name] = try_joint_remedy(
            bench,
            scheme,
            whole.errors[Experiment(scheme)],
            costs,
            judge,
            (searched, split.for_verdict),
            progress,
            bounded if spending.is_bounded else None,
        )
    return found


def remedies(record: Record, judge: Judge) -> Iterator[JointRemedy]:
    """What helps, in the order of the schemes; one scale a channel before a list of nodes."""
    for scheme in record.facts.schemes:
        trial = (record.joint or {}).get(scheme.name)
        if trial is None:
            continue
        finer = _one_scale_a_channel(record, trial, judge) if scheme == INT8_PER_TENSOR else None
        if finer is not None:
            yield finer
        if trial.helps:
            yield replace(_of_nodes(record, trial, judge), coarse_only=finer is not None)


def notes(record: Record) -> Iterator[str]:
    """Why no list of nodes is given where one was looked for."""
    for name, trial in (record.joint or {}).items():
        if trial.unnamed and not trial.helps:
            yield (
                f"{name}: {trial.unnamed} of the most costly tensors cannot be kept in float, because nodes beside "
                "them have no name; name the nodes first (QG002)"
            )


def with_advice(findings: Sequence[Finding], tried: Mapping[str, JointTrial] | None) -> tuple[Finding, ...]:
    """Findings without lists of their own where one was tried for the model; else with the word that none was."""
    return tuple(_with_advice(finding, tried or {}) if finding.nodes_to_exclude else finding for finding in findings)


def _with_advice(finding: Finding, tried: Mapping[str, JointTrial]) -> Finding:
    names = [name for name in tried if finding.claim is None or finding.claim.scheme == name]
    names = [name for name in names if tried[name].nodes]
    if not names:
        if finding.change is not None or finding.tried is not None:
            return finding  # whether that was tried it says itself
        return replace(finding, remedy=_sentence(finding.remedy, "Untried."))
    helping = [name for name in names if tried[name].helps]
    if helping:
        said = f"The nodes to leave in float are in the list that was tried for {' and '.join(helping)}."
    else:
        said = f"Leaving the worst nodes in float was tried for {' and '.join(names)} and is not enough."
    return replace(finding, remedy=_sentence(finding.remedy, said), snippet="", nodes_to_exclude=())


def _sentence(text: str, said: str) -> str:
    return f"{text.rstrip('.')}. {said}" if text else said


def _of_nodes(record: Record, trial: JointTrial, judge: Judge) -> JointRemedy:
    options = scheme_options(trial.scheme) or ()
    return _remedy(record, trial.scheme, trial.scheme, (*options, exclude_option(trial.nodes)), trial, judge)


def _one_scale_a_channel(record: Record, trial: JointTrial, judge: Judge) -> JointRemedy | None:
    """The scheme with one scale a channel, where that was measured to survive on the same samples."""
    assert record.whole is not None
    after = record.whole.errors.get(Experiment(INT8_PER_CHANNEL))
    if after is None or judge(after) is not Verdict.SURVIVES:
        return None
    made = replace(trial, nodes=(), after=after)
    return _remedy(record, trial.scheme, INT8_PER_CHANNEL, scheme_options(INT8_PER_CHANNEL) or (), made, judge)


def _remedy(
    record: Record, scheme: Scheme, after: Scheme, options: Sequence[str], trial: JointTrial, judge: Judge
) -> JointRemedy:
    assert record.whole is not None
    return JointRemedy(
        scheme=scheme.name,
        nodes_to_exclude=trial.nodes,
        snippet=quantize_static_call(*options),
        before_db=trial.before.worst_db,
        after_db=trial.after.worst_db,
        before_agreement=trial.before.agreement,
        after_agreement=trial.after.agreement,
        verdict_before=judge(trial.before),
        verdict_after=judge(trial.after),
        samples=trial.after.samples,
        held_out=bool(record.whole.held_out),
        opset=PER_CHANNEL_OPSET if after.needs_opset(record.facts.model.opset) else None,
    )
