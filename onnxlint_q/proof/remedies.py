"""The trial of each remedy: what it changes is run, and words, figures and the printed call follow from that.

A change of the quantisation is judged by the whole scheme with it beside the whole scheme without, on the same samples;
a conversion by whether ONNX Runtime loads what the converter writes, and computes the same of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import (
    DEFAULT_SCHEMES,
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    PER_CHANNEL_OPSET,
    Scheme,
)
from onnxlint_q.execute.executable import Executable, as_stored
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.conversion import converted, lines
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples, run_variants
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Change, Conversion, Finding, Requantisation, Tried
from onnxlint_q.judge.advice.quantizer_options import requantised
from onnxlint_q.judge.verdict import GAIN_DB, Judge, Verdict
from onnxlint_q.proof.gain import SAME_DB, Gain
from onnxlint_q.rewrite.hygiene.converter import NotConvertibleError

# Less is what a handful of samples more or less would change.
CONVERSION_SAMPLES = 4
"""How many a converted model is compared on."""
RANGES_TRIED = 4
"""Findings whose ranges are tried, the worst ones: each costs as much as a whole scheme."""
RANGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a remedy that was tried.

    Attributes:
        tried: what a report says of it.
        change: what was tried; None where it is no remedy.
        snippet: the call for it.
    """

    tried: Tried
    change: Change | None = None
    snippet: str = ""


def try_requantisations(
    bench: Workbench,
    findings: Sequence[Finding],
    errors: Errors,
    judge: Judge,
    samples: Samples,
    progress: Progress = silent,
    most: int = RANGES_TRIED,
) -> tuple[Finding, ...]:
    """The findings with what came of remedies that change how the model is quantised.

    Ranges are tried one by one under the better of the two schemes that `quantize_static` makes, those of the worst
    findings only.

    Args:
        bench: calibrated.
        findings: tested already; those that are refuted advise nothing.
        errors: of whole schemes, on `samples`.
        judge: the verdict on an error; what survives is enough.
        samples: a fresh pass each time it is called.
        progress: told how many runs are done.
        most: changes of ranges that are tried.

    Raises:
        NotRunnableError: ONNX Runtime cannot run a variant.
        DataError: a sample cannot be read.
    """
    whole = {scheme: error for scheme in DEFAULT_SCHEMES if (error := errors.get(Experiment(scheme))) is not None}
    outcomes: dict[Change, Outcome] = dict(_finer_scales(whole, judge))
    best = _best(bench, whole)
    if best is not None:
        outcomes |= _ranges(bench, ranges_asked(findings)[:most], best, whole[best], judge, samples, progress)
    return tuple(_with(finding, outcomes) for finding in findings)


def ranges_asked(findings: Sequence[Finding]) -> Sequence[Requantisation]:
    """The changes of ranges that are to be tried, those of the worst findings."""
    asked = [(f, f.change) for f in findings if f.counts and isinstance(f.change, Requantisation)]
    listed = sorted(
        ((finding, change) for finding, change in asked if not change.options and change.ranges),
        key=lambda one: math.inf if one[0].measured_db is None else one[0].measured_db,
    )
    return list(dict.fromkeys(change for _, change in listed))[:RANGES_TRIED]


def try_conversions(bench: Workbench, findings: Sequence[Finding], samples: Samples) -> tuple[Finding, ...]:
    """The findings with what came of remedies that convert the model.

    Args:
        bench: of the model; it needs no ranges.
        findings: any.
        samples: a few; a fresh pass each time it is called.

    Raises:
        DataError: a sample cannot be read.
    """
    wanted = {finding.change for finding in findings if isinstance(finding.change, Conversion) and finding.counts}
    if not wanted or as_stored(bench.measured.model).weight_bytes > bench.limits.converted_bytes:
        return tuple(findings)
    outcomes: dict[Change, Outcome] = {change: _conversion(bench, change, samples) for change in wanted}
    return tuple(_with(finding, outcomes) for finding in findings)


def _with(finding: Finding, outcomes: Mapping[Change, Outcome]) -> Finding:
    outcome = outcomes.get(finding.change) if finding.change is not None and finding.counts else None
    if outcome is None:
        return finding
    remedy = finding.remedy if outcome.change is not None else finding.otherwise
    return replace(finding, remedy=remedy, snippet=outcome.snippet, change=outcome.change, tried=outcome.tried)


def _finer_scales(whole: Mapping[Scheme, OutputError], judge: Judge) -> Iterator[tuple[Requantisation, Outcome]]:
    """One scale a channel instead of one a tensor: both were run as schemes already."""
    gain = Gain.of(whole.get(INT8_PER_TENSOR), whole.get(INT8_PER_CHANNEL))
    if gain is None:
        return
    for change in (Requantisation(per_channel=True), Requantisation(per_channel=True, possible=False)):
        if gain.db >= GAIN_DB and judge(gain.after) is Verdict.SURVIVES:
            said = f"Tried: {gain.figures} with everything quantised."
            tried = Tried(said, *gain.decibels, INT8_PER_CHANNEL.name)
            yield change, Outcome(tried, change, requantised(change, INT8_PER_CHANNEL.activations))
            continue
        how = "help, but not enough" if gain.db >= GAIN_DB else "were tried and do not help"
        said = f"Per-channel scales {how}: {gain.figures} with everything quantised."
        yield change, Outcome(Tried(said, *gain.decibels, INT8_PER_CHANNEL.name))


def _best(bench: Workbench, whole: Mapping[Scheme, OutputError]) -> Scheme | None:
    """The scheme that leaves the most, of those that a file of this opset can hold."""
    opset = bench.measured.model.opset
    possible = [
        scheme
        for scheme, error in whole.items()
        if error.has_signal and error.worst_db is not None and (opset >= PER_CHANNEL_OPSET or not scheme.per_channel)
    ]
    return max(possible, key=lambda scheme: whole[scheme].worst_db or -math.inf, default=None)


def _ranges(
    bench: Workbench,
    changes: Sequence[Requantisation],
    scheme: Scheme,
    before: OutputError,
    judge: Judge,
    samples: Samples,
    progress: Progress,
) -> dict[Change, Outcome]:
    """Each change of ranges alone."""
    variants = {change: partial(_with_ranges, bench, scheme, change) for change in changes}
    errors = run_variants(bench, variants, samples, progress, Allowance(RANGE_SECONDS))
    return {
        change: _of_ranges(change, scheme, gain, judge)
        for change, after in errors.items()
        if after.samples == before.samples and (gain := Gain.of(before, after)) is not None
    }


def _with_ranges(bench: Workbench, scheme: Scheme, change: Requantisation) -> Executable:
    ranges = {one.tensor: (one.low, one.high) for one in change.ranges}
    return bench.with_ranges(ranges).executable(Experiment(scheme))


def _of_ranges(change: Requantisation, scheme: Scheme, gain: Gain, judge: Judge) -> Outcome:
    under = f"{gain.figures} with everything quantised ({scheme.name})"
    figures = (*gain.decibels, scheme.name)
    if gain.db >= GAIN_DB:
        how = "Tried" if judge(gain.after) is Verdict.SURVIVES else "Helps, but not enough"
        made = replace(change, per_channel=scheme.per_channel)
        return Outcome(Tried(f"{how}: {under}.", *figures), made, requantised(made, scheme.activations))
    ends = ", ".join(f"{one.low:.3g} to {one.high:.3g}" for one in change.ranges)
    how = "does harm" if gain.db <= -GAIN_DB else "does not help"
    return Outcome(Tried(f"Calibrating for {ends} was tried and {how}: {under}.", *figures))


def _conversion(bench: Workbench, change: Conversion, samples: Samples) -> Outcome:
    """The wanted opset, else the lowest that works; where none does, why the wanted one does not."""
    model, reasons = bench.measured.model, list[str]()
    defaults = len(model.proto.graph.input) > len(model.inputs)
    for target in dict.fromkeys((change.opset, *range(PER_CHANNEL_OPSET, change.opset))):
        for without in (False, True) if defaults else (False,):
            made = Conversion(target, without)
            found = _converted(bench, made, samples)
            if isinstance(found, str):
                reasons.append(found)
                continue
            same = "are identical" if found.worst_db is None else f"agree to {found.worst_db:.0f} dB"
            said = f"Conversion to opset {target} was tried: ONNX Runtime runs the model, and the outputs {same}."
            beside = str(Path(model.name).with_name(f"{Path(model.name).stem}-opset{target}.onnx"))
            return Outcome(Tried(said, after_db=found.worst_db), made, lines(model.name, beside, made))
    return Outcome(Tried(f"Conversion to opset {change.opset} was tried and failed: {reasons[0].rstrip('.')}."))


def _converted(bench: Workbench, change: Conversion, samples: Samples) -> OutputError | str:
    """How far the converted model is from the one in the file; words where it is none."""
    model = bench.measured.model
    stored = replace(bench, float_model=as_stored(model), outputs=bench.measured.outputs)
    try:
        made = converted(model.path, change, bench.limits)
        error = run_variants(stored, {change: lambda: made}, samples)[change]
    except NotConvertibleError as failed:
        return str(failed)
    except NotRunnableError as failed:
        return f"ONNX Runtime does not run it: {failed}"
    if not error.has_signal:
        return "no output could be compared"
    if error.worst_db is not None and error.worst_db < SAME_DB:
        return f"its outputs differ from the file's ({error.worst_db:.0f} dB)"
    return error
