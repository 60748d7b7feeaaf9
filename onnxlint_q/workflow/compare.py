"""The use case of `compare`: two files in, one comparison out. Read, pair, run, judge."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.half.tensors import FP16, is_half
from onnxlint_q.analysis.observed.compared import JUMP_DB, Compared
from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.analysis.pairing.skeleton import Operation
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.errors import ModelError, UsageError
from onnxlint_q.execute.child import ChildEndedError, run_apart
from onnxlint_q.execute.data.labels import read_labels
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.first_run import run_once
from onnxlint_q.execute.half.run import HalfRun, run_halved
from onnxlint_q.execute.limits import DEFAULT_LIMITS, DEFAULT_SAMPLES, USUAL, Asked, Limits
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.readout import fed
from onnxlint_q.execute.session import TooLongError
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.finding import CONFIRM_BELOW_DB
from onnxlint_q.graph import Format, read_model
from onnxlint_q.graph.loading.external import stored_bytes
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.own_findings import RULE_CRASHED
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.proof.comparison.compare import compare_files, pair_files
from onnxlint_q.proof.comparison.deployed import DeployedPair, check_deployed, compare_deployed
from onnxlint_q.proof.comparison.run_both import PairErrors, check_loads
from onnxlint_q.proof.comparison.settle import Deciding, settle
from onnxlint_q.proof.file_remedies import try_on_file
from onnxlint_q.workflow.assembly.assemble import assemble
from onnxlint_q.workflow.assembly.half import half_result
from onnxlint_q.workflow.assembly.joint_remedies import with_advice
from onnxlint_q.workflow.assembly.known import sorted_out, with_known
from onnxlint_q.workflow.assembly.outputs import result_of_run
from onnxlint_q.workflow.assembly.verdicts import judge_by
from onnxlint_q.workflow.check import Job
from onnxlint_q.workflow.comparison import (
    ComparedFile,
    Comparison,
)
from onnxlint_q.workflow.judging import judge
from onnxlint_q.workflow.overheard import unheard
from onnxlint_q.workflow.record import CheckRequest, Record
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    SchemeResult,
)
from onnxlint_q.workflow.sizes import notes_on, settled
from onnxlint_q.workflow.stages.running import NO_CLASSES


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What the user asked for.

    Attributes:
        source: samples to run.
        samples: how many.
        labels: the class of each sample, or the file that holds them; None without.
        input_shapes: shapes that inputs of the float model are to have, by name.
        debug: keep why rules did not fire.
        page: take what only a page shows.
        fresh: this process is another program's, so the one apart must not be a copy of it.
        called: what to call a float model that is no file of the user's; empty for one that is.
        asked: what it may take.
    """

    source: Source
    samples: int = DEFAULT_SAMPLES
    labels: Path | Sequence[int] | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    debug: bool = False
    fresh: bool = False
    called: str = ""
    asked: Asked = USUAL
    page: bool = False


def compare_apart(reference: Path, quantized: Job, request: CompareRequest, progress: Progress = silent) -> Comparison:
    """`compare` in a process of its own, so that a crash of native code is an error like others.

    Raises:
        ModelError, DataError, UsageError: as `compare`; the first also where the process is ended.
    """
    task = partial(compare, reference, quantized, request)
    budget = request.asked.for_models(stored_bytes(reference) + stored_bytes(quantized.path))
    try:
        return run_apart(task, progress, fresh=request.fresh, budget=budget)
    except ChildEndedError as error:
        raise ModelError(
            f"{request.called or reference} and {quantized.name}: could not be compared: the process {error}; "
            f"{error.advice}"
        ) from error


def compare(
    reference: Path,
    quantized: Job,
    request: CompareRequest,
    progress: Progress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Comparison:
    """Compare a quantised file with its float original on the same samples.

    Args:
        reference: the float file.
        quantized: the other, with the configuration nearest to it and the rules that this chooses.
        request: what to run.
        progress: told after each sample.
        limits: of the runs.

    Raises:
        ModelError: a file cannot be read, paired with the other, or run.
        DataError: the samples or the labels cannot be read or do not fit.
        UsageError: the files are given in the wrong order, the second one is not quantised, or a shape does not fit.
    """
    progress("reading", 0, 0)
    clock = [time.perf_counter()]
    read = read_model(reference, request.called)
    try:
        model, inputs = settled(read, request.input_shapes, request.source, request.asked)
        ours = facts_of(model, DEFAULT_SCHEMES)
        theirs = facts_of(read_model(quantized.path, quantized.called), DEFAULT_SCHEMES)
        _check_order(ours, theirs)
        for one in (ours, theirs):
            run_once(one, request.source, request.asked)
    except TooLongError as error:
        raise ModelError(f"{request.called or reference} and {quantized.name}: cannot be compared: {error}") from error
    if theirs.in_half:  # what quantising would do to either file is not the question
        ours, theirs = replace(ours, schemes=()), replace(theirs, schemes=())
    clock.append(time.perf_counter())
    pairing = pair_files(ours, theirs)
    clock.append(time.perf_counter())
    labels = read_labels(request.labels, request.source) if request.labels is not None else None
    by_default = check_deployed(pairing, request.source, limits)
    jump_db, bad_db = _loosest(quantized.rules)
    comparison = compare_files(
        pairing,
        ours,
        theirs,
        request.source,
        request.samples,
        labels,
        progress,
        jump_db=jump_db,
        bad_db=bad_db,
        limits=limits,
    )
    deployed = compare_deployed(pairing, by_default, comparison.errors.output, request.source, request.samples, limits)
    half = _as_half(theirs, pairing, request, progress, limits)
    clock.append(time.perf_counter())
    rules, config = quantized.rules, quantized.config
    theirs = theirs if half is None else theirs.run_as_half(half.halved)
    facts = theirs.compared(comparison.compared).run_as_deployed(deployed.deployed).meant_for(config.targets)
    lines: list[str] = []
    judged = judge(facts, rules, config, lines.extend if request.debug else unheard)
    on_reference = judge(ours, rules, config)
    crashed = [finding for finding in on_reference if finding.code == RULE_CRASHED.code and finding not in judged]
    verdict = _verdict(theirs, comparison.errors, deployed, half, config.levels, by_class=not request.source.synthetic)
    deciding = _deciding(verdict, comparison.compared)
    settled_findings = settle(
        [*judged, *crashed],
        [finding for finding in on_reference if finding not in crashed],
        rules,
        comparison.compared,
        config.confirm_below_db,
        deciding,
    )
    findings = settled_findings.quantized
    if theirs.format is Format.QDQ:
        of_run = judge_by(config.levels, by_class=not request.source.synthetic)
        findings = try_on_file(findings, pairing, theirs.quantized, request.source, request.samples, of_run, limits)
    findings = with_advice(findings, None)
    clock.append(time.perf_counter())
    names = {value: held.tensors[0] for value, held in enumerate(pairing.quantized.values)}
    record = Record(CheckRequest(page=request.page), rules, config, facts, judged=findings, seconds=_stages(clock))
    told = sorted_out(record, findings, comparing=True)
    assembled = replace(assemble(record), schemes=(verdict,))
    return Comparison(
        reference=ComparedFile(
            ours.model.name,
            ours.model.sha256,
            ours.model.opset,
            ours.format.value,
            len(ours.layers),
            settled_findings.reference,
        ),
        quantized=replace(
            with_known(assembled, told, config, calibrated=True),
            debug=tuple(lines),
            inputs=inputs,
            calibration=_calibration(ours, request.source, comparison.errors),
            notes=(*notes_on(inputs), *_notes(ours, pairing, comparison.errors, labels)),
        ),
        classifier=comparison.errors.classifier,
        rows=comparison.compared.rows,
        unpaired_reference=tuple(map(_label, pairing.lost_reference)),
        unpaired_quantized=tuple(map(_label, pairing.lost_quantized)),
        not_compared=tuple(names[value] for value in sorted(comparison.errors.mismatched)),
        levels=_levels(rules),
        deciding=comparison.compared.reference_keys.get(deciding.branch, deciding.output),
    )


def check_differ(reference: Path, quantized: Path) -> None:
    """Check that two files to compare are two.

    Raises:
        UsageError: they are one, of which a comparison would say that nothing was lost.
    """
    try:
        same = reference.samefile(quantized)
    except OSError:  # which of them is not there is told when it is read
        return
    if same:
        raise UsageError(
            f"{reference} and {quantized} are the same file; name the float model, and the one that was made from it"
        )


def _check_order(ours: Facts, theirs: Facts) -> None:
    """Check that the second file is a quantised one, or float16.

    Raises:
        UsageError: it is not.
        ModelError: nothing that is known as quantisation was found in it, and ONNX Runtime cannot load it.
    """
    if not theirs.is_float or (ours.is_float and is_half(theirs.model) and not is_half(ours.model)):
        return
    reference, quantized = ours.model.name, theirs.model.name
    if not ours.is_float:
        raise UsageError(
            f"{reference} is quantised ({ours.format}) and {quantized} is float; name the float model first: "
            "`compare FLOAT QUANTISED`"
        )
    check_loads(theirs.model)
    raise UsageError(
        f"{quantized} is not quantised as far as can be seen: no QDQ pair, no QOperator, nothing dynamic; name the "
        f"file that was quantised from {reference}"
    )


def _as_half(
    theirs: Facts, pairing: Pairing, request: CompareRequest, progress: Progress, limits: Limits
) -> HalfRun | None:
    """A float16 file with each result rounded, on the samples of the comparison; None for any other."""
    if not theirs.in_half:
        return None
    source, inputs, model = request.source, pairing.reference.model.inputs, theirs.model

    def samples() -> Iterator[Sample]:
        return (fed(model, pairing.inputs, sample) for sample in source.take(inputs, request.samples))

    return run_halved(theirs, samples, whole=False, synthetic=source.synthetic, progress=progress, limits=limits)


def _verdict(
    theirs: Facts,
    errors: PairErrors,
    deployed: DeployedPair,
    half: HalfRun | None,
    levels: VerdictLevels,
    *,
    by_class: bool,
) -> SchemeResult:
    """The verdict on the outputs, that of the worst run there is; none where nothing was measured."""
    ran = _verdict_of_runs(theirs, errors, deployed, levels, by_class=by_class)
    if half is None:
        return ran
    rounded = half_result(half.error, Basis.MEASURED, levels, by_class=by_class)
    if _badness(ran) <= _badness(rounded):
        return ran
    own = "without error" if ran.output_sqnr_db is None else f"at {ran.output_sqnr_db:.1f} dB"
    note = f"each result rounded to float16; the file runs {own} here, where most nodes compute in float32"
    return replace(rounded, note="; ".join(filter(None, (note, rounded.note))))


def _badness(result: SchemeResult) -> float:
    """The worst first; what is not known stands before what survives."""
    return Verdict.SURVIVES.rank - 0.5 if result.verdict is None else result.verdict.rank


def _verdict_of_runs(
    theirs: Facts, errors: PairErrors, deployed: DeployedPair, levels: VerdictLevels, *, by_class: bool
) -> SchemeResult:
    """The verdict of the worse run where the default one differs."""

    def of_run(error: OutputError) -> SchemeResult:
        name = FP16 if theirs.in_half else theirs.format.value
        return result_of_run(name, error, Basis.MEASURED, levels, by_class=by_class)

    plain, default = errors.output, deployed.output
    both = deployed.deployed.against_float
    if default is None or both is None or (both.default_db or math.inf) >= (both.plain_db or math.inf):
        return of_run(plain)
    result = of_run(default)
    other = "no error" if both.plain_db is None else f"{both.plain_db:.1f} dB"
    note = f"with ONNX Runtime's default options; {other} with graph optimisation off"
    return replace(result, note="; ".join(filter(None, (note, result.note))))


def _deciding(verdict: SchemeResult, compared: Compared) -> Deciding:
    """The output or the part of one that decides the verdict, as the rows call it."""
    worst = verdict.worst
    if worst is None:
        return Deciding()
    return Deciding(compared.reference_keys.get(worst.of or worst.name, ""), worst.name if worst.of else "")


def _calibration(ours: Facts, source: Source, errors: PairErrors) -> CalibrationSummary:
    return CalibrationSummary(source.name, source.prepared(ours.model.inputs), errors.samples, 0, source.synthetic)


def _levels(rules: Sequence[Rule]) -> Mapping[str, float]:
    """Options of the rules about a pair; of several that have one, that of the first."""
    about_pairs = [rule for rule in rules if rule.needs_comparison]
    return {name: getattr(rule, name) for rule in reversed(about_pairs) for name, *_ in rule.options()}


def _loosest(rules: Sequence[Rule]) -> tuple[float, float]:
    """`jump_db` and `bad_db` at which every row that a chosen rule asks about is tried."""

    def chosen(name: str, default: float) -> Sequence[float]:
        return [getattr(rule, name) for rule in rules if rule.needs_comparison and hasattr(rule, name)] or [default]

    return min(chosen("jump_db", JUMP_DB)), max(chosen("bad_db", CONFIRM_BELOW_DB))


def _label(operation: Operation) -> str:
    return f"{operation.node.label} ({operation.node.op_type})"


def _notes(ours: Facts, pairing: Pairing, errors: PairErrors, labels: Sequence[int] | None) -> Iterator[str]:
    if not ours.is_float:
        yield f"the first file is quantised too ({ours.format}): errors are differences from it"
    if any(a.name != b.name for a, b in pairing.inputs):
        yield "the input names differ, so inputs were paired by position"
    outputs = len(ours.model.outputs)
    if errors.outputs < outputs:
        yield f"{outputs - errors.outputs} of {outputs} outputs of the float model have no counterpart"
    if not errors.output.has_signal:
        yield (
            "no error could be measured at the output: it is zero, not finite, not a float, or has another shape in "
            "the other file"
        )
    if pairing.contradictions:
        yield f"for {pairing.contradictions} tensors two counterparts were found; the first one counts"
    if labels is not None and errors.classifier is None:
        yield NO_CLASSES


def _stages(clock: Sequence[float]) -> Mapping[str, float]:
    names = ("read", "pair", "run", "judge")
    return {name: clock[i + 1] - clock[i] for i, name in enumerate(names)}
