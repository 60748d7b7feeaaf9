"""What a run produced: plain values, the only thing a report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.analysis.causes.roles import TensorRole
from onnxlint_q.analysis.experiment import LayerSqnr
from onnxlint_q.analysis.number_formats import OVERFLOWN_DB
from onnxlint_q.analysis.observed.compared import ClassifierError, ComparedRow
from onnxlint_q.analysis.observed.costs import MOST
from onnxlint_q.analysis.observed.readings import QparamsReading
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Confidence, Evidence, Finding, Severity
from onnxlint_q.judge.own_findings import NOT_RUN
from onnxlint_q.judge.suppression import KnownModel
from onnxlint_q.judge.verdict import Chances, Verdict, VerdictLevels
from onnxlint_q.proof.trial_figures import TrialFigure, Trials
from onnxlint_q.workflow.pictures.values import Channel, Gain, Merged, OnGrid, Picture, Seen, Sight
from onnxlint_q.workflow.reading.values import ActivationRow, CalibrationSummary, FileFacts, QparamsRow
from onnxlint_q.workflow.scheme_result import Basis, JointRemedy, Mended, OutputResult, SchemeResult, TensorRow

__all__ = [
    "MOST",
    "OVERFLOWN_DB",
    "ActivationRow",
    "Basis",
    "CalibrationSummary",
    "Chances",
    "Channel",
    "ClassifierError",
    "ComparedRow",
    "Failure",
    "FileFacts",
    "Gain",
    "JointRemedy",
    "LayerRow",
    "LayerSqnr",
    "Mended",
    "Merged",
    "ModelResult",
    "OnGrid",
    "OperandRow",
    "OutputResult",
    "Picture",
    "Port",
    "QparamsReading",
    "QparamsRow",
    "RuleText",
    "Run",
    "SchemeResult",
    "Seen",
    "Sight",
    "TensorRole",
    "TensorRow",
    "Top1",
    "TrialFigure",
    "Trials",
    "Verdict",
    "VerdictLevels",
]


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
        stored_range: the same as stored, where folding changes it.
        average_precision: eq. 2 of the MobileNet paper, on the folded weight; in (0, 1].
        channel_sqnr_db: mean over channels of the weight's SQNR under one int8 scale for the tensor; None if dead.
        activation_low, activation_high: what calibration observed of the tensor that is rounded behind the layer, its
            Relu or Clip passed; None without it, or where that tensor gets no scale.
        forecast, probe, measured: by scheme name; None where that stage did not run.
        operands: its weights one by one, where it has several; the figures above are then those of the worst.
        structure: identity that survives new names, as of a finding.
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
    structure: str = ""
    stored_range: float | None = None


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
class Port:
    """An input or an output of a model.

    Attributes:
        name: as declared.
        dtype: element type, `float32`; empty where the file does not say it.
        shape: as declared, `[1, 3, ?, ?]`.
    """

    name: str
    dtype: str
    shape: str


@dataclass(frozen=True, slots=True)
class FixPreview:
    """What `fix` would do to the model, tried on the same samples.

    Attributes:
        rewrites: names of those that would change something.
        places: how many places they would change.
        float_sqnr_db: of the float outputs; None where they are identical.
        before, after: whole schemes without and with the changes.
    """

    rewrites: tuple[str, ...]
    places: int
    float_sqnr_db: float | None
    before: tuple[SchemeResult, ...]
    after: tuple[SchemeResult, ...]


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
        pictures: what a page draws of findings, by fingerprint; empty unless it was asked for.
        file: what it is, beside its graph.
        preview: what `fix` would do; None unless it was asked for and tried.
        suppressed: findings that somebody knows of, each with its `suppression`; they fail no build.
        accepted: schemes whose verdict fails no build, because a baseline holds one that is no better.
        known: what that baseline has to hold of the model now; None without one.
        ports_in, ports_out: inputs and outputs, in their order.
        rule_pages: address of the page of a rule, with `{code}` and `{name}`; empty where nobody said where they are.
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
    preview: FixPreview | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    file: FileFacts = field(default_factory=FileFacts)
    accepted: tuple[str, ...] = ()
    known: KnownModel | None = None
    rule_pages: str = ""
    ports_in: tuple[Port, ...] = ()
    ports_out: tuple[Port, ...] = ()

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
        return any(map(self.fails_by, self.findings)) or any(map(self.fails_by_verdict, self.schemes))

    def fails_by(self, finding: Finding) -> bool:
        """Whether one of the findings fails a build: it counts and is severe enough, or a run did not happen."""
        severe = self.fail_on is not None and finding.severity.rank >= self.fail_on.rank
        return (finding.counts and severe) or finding.code in NOT_RUN

    def fails_by_verdict(self, result: SchemeResult) -> bool:
        """Whether the verdict on a scheme fails a build."""
        if self.fail_on_verdict is None or result.verdict is None or result.scheme in self.accepted:
            return False
        return result.verdict.decided and result.verdict.rank <= self.fail_on_verdict.rank


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
