"""What a run produced: plain values, the only thing a report reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from onnxlint_q.analysis.causes.roles import TensorRole
from onnxlint_q.analysis.experiment import LayerSqnr
from onnxlint_q.analysis.observed.compared import ClassifierError, ComparedRow, QparamsReading
from onnxlint_q.analysis.observed.costs import MOST
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Confidence, Evidence, Finding, Severity, Subject
from onnxlint_q.judge.own_findings import NOT_RUN
from onnxlint_q.judge.verdict import Chances, Verdict, VerdictLevels
from onnxlint_q.proof.trial_figures import TrialFigure, Trials
from onnxlint_q.workflow.reading.values import ActivationRow, CalibrationSummary, QparamsRow

__all__ = [
    "MOST",
    "ActivationRow",
    "Basis",
    "CalibrationSummary",
    "Chances",
    "ClassifierError",
    "ComparedRow",
    "Failure",
    "JointRemedy",
    "LayerRow",
    "LayerSqnr",
    "Mended",
    "ModelResult",
    "OperandRow",
    "OutputResult",
    "QparamsReading",
    "QparamsRow",
    "RuleText",
    "Run",
    "SchemeResult",
    "TensorRole",
    "TensorRow",
    "Top1",
    "TrialFigure",
    "Trials",
    "Verdict",
    "VerdictLevels",
]


class Basis(StrEnum):
    """What a verdict rests on."""

    FORECAST = "forecast"
    PROBE = "probe"
    MEASURED = "measured"


@dataclass(frozen=True, slots=True)
class OperandRow:
    """One weight of a layer that has several.

    Attributes:
        name: W or R of a recurrent operator.
        weight: the tensor.
        shape: of it.
        range, average_precision, channel_sqnr_db: as of a layer.
    """

    name: str
    weight: str
    shape: tuple[int, ...]
    range: float
    average_precision: float
    channel_sqnr_db: float | None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer in a report.

    Attributes:
        output: the layer's key, its result tensor after folding.
        range: largest minus smallest folded weight.
        average_precision: eq. 2 of the MobileNet paper, on the folded weight; in (0, 1].
        channel_sqnr_db: mean over channels of the weight's SQNR under one int8 scale for the tensor; None if dead.
        activation_low, activation_high: what calibration observed of the tensor that is rounded behind the layer, its
            Relu or Clip passed; None without it, or where that tensor gets no scale.
        forecast, probe, measured: by scheme name; None where that stage did not run.
        operands: its weights one by one, where it has several; the figures above are then those of the worst.
    """

    node: str
    output: str
    op_type: str
    group: int
    depthwise: bool
    range: float
    average_precision: float
    channel_sqnr_db: float | None
    activation_low: float | None = None
    activation_high: float | None = None
    forecast: Mapping[str, LayerSqnr] | None = None
    probe: Mapping[str, LayerSqnr] | None = None
    measured: Mapping[str, LayerSqnr] | None = None
    operands: tuple[OperandRow, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One weight or one activation in a report, quantised alone.

    Attributes:
        tensor: for a weight the key of its layer, else the activation.
        kind: which of the two it is.
        node, op_type: the operator that has the weight, or makes the activation; empty for an input of the model.
        sqnr_db: at the model's output; infinite where the outputs stay identical.
        share: fraction of the noise of all tensors, each alone.
        role: what it is in the network, as several of them are called.
        depth: place in data order, from 0 to 1.
    """

    tensor: str
    kind: Subject
    node: str
    op_type: str
    sqnr_db: float
    share: float
    role: TensorRole = TensorRole.OTHER
    depth: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output of the model under one scheme, or a part of one that joins several things.

    Attributes:
        name: of a part, the tensor before it was joined.
        holds: `class scores`, `values` or `no floats`.
        sqnr_db: None where the output equals the float model's, or is not judged.
        agreement: of class scores, fraction of rows whose largest class is the float model's; else None.
        interval: 95 % of such intervals hold the true agreement; None unless it was measured.
        verdict: None where it is not judged; that of the worst part where there are parts.
        chances: how likely each verdict is; None where it is not judged.
        interval_db: holds the measured SQNR in 80 of 100 cases; None for one that was measured.
        note: why it is not judged, or what would decide; empty else.
        assumed: what in the file says what it holds, in words; empty where nothing does.
        parts: of one that joins several things; each is judged by itself.
        of: the output that a part belongs to; empty for an output.
    """

    name: str
    holds: str
    sqnr_db: float | None = None
    agreement: float | None = None
    interval: tuple[float, float] | None = None
    verdict: Verdict | None = None
    note: str = ""
    assumed: str = ""
    parts: tuple[OutputResult, ...] = ()
    of: str = ""
    chances: Chances | None = None
    interval_db: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SchemeResult:
    """The verdict on one scheme, which is that on its worst output.

    Attributes:
        output_sqnr_db: with everything quantised, pooled over the outputs that are judged, finite; None with the reason
            in `note`.
        agreement: fraction of samples whose top-1 agrees with float, measured or forecast, of the worst output that
            holds class scores; None if none does.
        outputs: one by one.
        note: what weakens the figure, in words.
        uncertainty_db: two thirds of such figures lie within plus or minus this of a measurement; None for one.
        rest_share: fraction of the noise power from activations that are no layer's output; None unless forecast.
        ran: the model was run, whether or not that gave the figure.
        tensors: every weight and activation alone, in data order, as far as something can be said of them.
        tensors_basis: what their figures rest on; a run measures them where the model does not survive.
        mended: the verdict once what a rewrite can mend is mended; None where there is nothing, or it changes nothing.
        chances: how likely each verdict is; None where nothing is known.
        interval_db: holds the measured `output_sqnr_db` in 80 of 100 cases; None for one that was measured.
        measured_as: what the run stands for, in words: quantiser, ranges, formats; empty where nothing was run.
        top1: how often the float and the quantised model are right; None without labels.
        ranges: where activations get their ranges if not from calibration, in words; else empty.
        left: how many layers stay in float, in words; empty where none does.
        loads_from: the opset from which on the quantised file loads, where that of the model is older and all figures
            are those of a model that has it; None where it loads.
    """

    scheme: str
    verdict: Verdict | None
    output_sqnr_db: float | None
    basis: Basis
    agreement: float | None = None
    note: str = ""
    uncertainty_db: float | None = None
    rest_share: float | None = None
    ran: bool = False
    outputs: tuple[OutputResult, ...] = ()
    measured_as: str = ""
    top1: Top1 | None = None
    tensors: tuple[TensorRow, ...] = ()
    ranges: str = ""
    left: str = ""
    tensors_basis: Basis | None = None
    loads_from: int | None = None
    mended: Mended | None = None
    chances: Chances | None = None
    interval_db: tuple[float, float] | None = None

    @property
    def in_float(self) -> str:
        """What is not quantised before the model runs, `ranges` and `left` in one."""
        return "; ".join(filter(None, (self.ranges, self.left)))

    @property
    def ends(self) -> tuple[OutputResult, ...]:
        """The outputs, in place of those that join several things their parts."""
        return tuple(end for output in self.outputs for end in (output.parts or (output,)))

    @property
    def judged(self) -> tuple[OutputResult, ...]:
        """Those of `ends` that have a verdict."""
        return tuple(end for end in self.ends if end.verdict is not None)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `agreement`; None for a forecast."""
        known = [output for output in self.outputs if output.agreement is not None]
        return min(known, key=lambda output: output.agreement or 0.0).interval if known else None

    @property
    def worst(self) -> OutputResult | None:
        """The output, or part of one, that decides the verdict: of those with the worst the one that lost most."""
        return min(self.judged, key=self._standing, default=None)

    def _standing(self, end: OutputResult) -> tuple[bool, int, float]:
        held = end.chances.likeliest if end.verdict is Verdict.UNCERTAIN and end.chances is not None else end.verdict
        assert held is not None
        return end.verdict is not self.verdict, held.rank, math.inf if end.sqnr_db is None else end.sqnr_db

    @property
    def noise(self) -> tuple[TensorRow, ...]:
        """The fewest tensors that make up most of the noise, at least nine tenths, the most costly first."""
        found: list[TensorRow] = []
        for row in sorted(self.tensors, key=lambda row: -row.share):
            if row.share <= 0 or sum(one.share for one in found) >= MOST:
                break
            found.append(row)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Mended:
    """The verdict on a scheme for the rewritten model.

    Attributes:
        rewrites: their names.
        what: what they changed, in words that follow `with`.
        result: of the rewritten model.
        exact_db: what the rewrites leave of the float outputs (dB); None where these are identical or nothing ran.
    """

    rewrites: tuple[str, ...]
    what: str
    result: SchemeResult
    exact_db: float | None = None


@dataclass(frozen=True, slots=True)
class JointRemedy:
    """What makes a scheme fare better, tried as a whole.

    Attributes:
        scheme: the one that it is for.
        nodes_to_exclude: names of nodes that stay in float, all of them together; empty for one scale a channel.
        snippet: the call of `quantize_static`, as typed.
        before_db, after_db: SQNR of the worst output without and with it, on the same samples; None if it is perfect.
        before_agreement, after_agreement: top-1 agreement with float; None if the model is no classifier.
        samples: how many that were.
        held_out: they are no samples that ranges were taken from.
        coarse_only: only for hardware that has one scale a tensor; there is another remedy for all others.
        opset: export the model at this opset first; None if its own will do.
    """

    scheme: str
    nodes_to_exclude: tuple[str, ...]
    snippet: str
    before_db: float | None
    after_db: float | None
    before_agreement: float | None
    after_agreement: float | None
    verdict_before: Verdict | None
    verdict_after: Verdict | None
    samples: int
    held_out: bool
    coarse_only: bool = False
    opset: int | None = None


@dataclass(frozen=True, slots=True)
class RuleText:
    """What the documentation of a rule says, for formats that carry it along.

    Attributes:
        severity: of its findings, unless they have their own.
        text: Markdown; the summary is its first line.
        about_run: its findings are about the run, so their location is an option or a rule, no place in the model.
    """

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    text: str
    about_run: bool = False

    @property
    def summary(self) -> str:
        """What is wrong, one sentence."""
        return self.text.split("\n", 1)[0]

    @property
    def description(self) -> str:
        """The first paragraph behind the summary, without its heading; the summary where there is none."""
        paragraphs = self.text.split("\n\n")[1:2] or [self.summary]
        lines = paragraphs[0].splitlines()
        return " ".join(line.strip() for line in lines if not line.startswith("#")) or self.summary


@dataclass(frozen=True, slots=True)
class TakenShape:
    """The shape that an input is taken to have where the file leaves it open.

    Attributes:
        name: of the input.
        declared: as in the file, None for an open axis.
        taken: without one.
        reason: why, in words.
    """

    name: str
    declared: tuple[int | None, ...]
    taken: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One linted model.

    Attributes:
        path: as the user named it.
        format: float, qdq, qoperator, dynamic or mixed.
        findings: most important first.
        calibration: None where nothing ran.
        untested_because: why nothing ran although it was asked for; empty otherwise.
        notes: what could not be analysed and what was assumed, in words.
        seconds: wall time by stage.
        levels: where the verdicts change.
        rule_crashed: a rule failed, so the answer is incomplete.
        fail_on, fail_on_verdict: lowest severity and best verdict that fail a build; None for never.
        trials: None unless they were asked for.
        remedies: what helps schemes that do not survive, tried.
        debug: for who debugs a rule, a line each: why it did not fire where it looked; empty unless asked for.
        rules: what is documented of the rules that found something, by code.
        qparams: every scale and zero point of a quantised file, in data order.
        activations: what the samples showed of each tensor, in data order; empty where nothing ran on data.
        inputs: those that the file leaves open by more than a batch.
    """

    path: str
    sha256: str
    opset: int
    format: str
    schemes: tuple[SchemeResult, ...]
    layers: tuple[LayerRow, ...]
    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...] = ()
    calibration: CalibrationSummary | None = None
    untested_because: str = ""
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    levels: VerdictLevels = field(default_factory=VerdictLevels)
    rule_crashed: bool = False
    fail_on: Severity | None = Severity.WARNING
    fail_on_verdict: Verdict | None = Verdict.BREAKS
    trials: Trials | None = None
    remedies: tuple[JointRemedy, ...] = ()
    debug: tuple[str, ...] = ()
    inputs: tuple[TakenShape, ...] = ()
    rules: tuple[RuleText, ...] = ()
    qparams: tuple[QparamsRow, ...] = ()
    activations: tuple[ActivationRow, ...] = ()

    def scheme(self, name: str) -> SchemeResult:
        """What is known of one scheme: `result.scheme("int8-per-tensor").verdict`.

        Raises:
            UsageError: it was not judged.
        """
        found = next((result for result in self.schemes if result.scheme == name), None)
        if found is None:
            judged = ", ".join(result.scheme for result in self.schemes) or "none"
            raise UsageError(f"scheme {name!r} was not judged; judged: {judged}")
        return found

    def count(self, evidence: Evidence) -> int:
        """How many findings have this evidence."""
        return sum(finding.evidence is evidence for finding in self.findings)

    @property
    def fails(self) -> bool:
        """Whether a build should fail: by a finding that is not refuted, by a verdict, or by a run that did not happen.

        An uncertain or unknown verdict does not fail it.
        """
        worst = max((finding.severity.rank for finding in self.findings if finding.counts), default=-1)
        verdicts = [result.verdict for result in self.schemes if result.verdict is not None]
        ranks = [verdict.rank for verdict in verdicts if verdict.decided]
        return (
            (self.fail_on is not None and worst >= self.fail_on.rank)
            or (self.fail_on_verdict is not None and any(rank <= self.fail_on_verdict.rank for rank in ranks))
            or any(finding.code in NOT_RUN for finding in self.findings)
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that could not be linted: one line for stderr.

    Attributes:
        traceback: of what should not happen, where it happened in this process; empty otherwise.
    """

    path: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of the tool.

    Attributes:
        data: the calibration data as it was named; empty without.
    """

    models: tuple[ModelResult, ...]
    failures: tuple[Failure, ...] = ()
    data: str = ""

    @property
    def fails(self) -> bool:
        """Whether any model fails a build."""
        return any(model.fails for model in self.models)

    @property
    def trustworthy(self) -> bool:
        """Whether every model was linted by every rule."""
        return not self.failures and not any(model.rule_crashed for model in self.models)
