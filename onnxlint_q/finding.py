"""What a rule says: plain frozen values, without onnx."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters if it is true."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for error."""
        return ("info", "warning", "error").index(self.value)


class Confidence(StrEnum):
    """How likely a finding is true before anything was run."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Evidence(StrEnum):
    """What stands behind a finding.

    STATIC: a fact of the file, nothing to run. UNTESTED: it makes a claim that no run has tested.
    CONFIRMED, REFUTED: a run tested it, or the data that it speaks of was read.
    """

    STATIC = "static"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNTESTED = "untested"


class Subject(StrEnum):
    """Which tensor a claim quantises."""

    WEIGHT = "weight"
    ACTIVATION = "activation"


CONFIRM_BELOW_DB = 20.0
"""A claim is confirmed under this SQNR (dB): noise of 10 % of the signal's amplitude, the level at which practitioners
start to exclude a layer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A falsifiable statement: quantise only this tensor, and the model's output falls below a level.

    Attributes:
        subject: whether the tensor is a layer's folded weight or an activation.
        tensor: for a weight the layer's result tensor (its key in every report), else the activation.
        scheme: name of the scheme whose arithmetic is used.
        below_db: the claim is true if the output SQNR (dB) measured is below this; the linter puts the configured
            level here.
        more: further activations that are quantised with it, where one fault spoils several.
        all_formats: it holds for activations of any format that get their ranges alike, because more bits do not help.
        all_ranges: it holds for activations of this format wherever their ranges come from, because those of a single
            run are as wide.
    """

    subject: Subject
    tensor: str
    scheme: str
    below_db: float = CONFIRM_BELOW_DB
    more: tuple[str, ...] = ()
    all_formats: bool = False
    all_ranges: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """All that is quantised."""
        return (self.tensor, *self.more)


@dataclass(frozen=True, slots=True)
class Cure:
    """A change of a layer that leaves the float model as it is and makes its weight easier to quantise.

    The weights of some output channels become zero, and what the channels return for every input moves to the bias.

    Attributes:
        layer: the layer's result tensor, its key in every report.
        channels: output channels of the layer.
        scheme: name of the scheme under which the cured weight is judged.
    """

    layer: str
    channels: tuple[int, ...]
    scheme: str


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The range that a tensor is to be quantised for, whatever the data has."""

    tensor: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Requantisation:
    """What a remedy changes in how the float model is quantised statically.

    Attributes:
        per_channel: one scale an output channel of each weight.
        ranges: of single tensors.
        options: others of ONNX Runtime's `quantize_static`, as they are typed; a change with any cannot be tried here.
        possible: whether a file of the model's opset can hold the result; else it is tried, and no call is printed.
    """

    per_channel: bool = False
    ranges: tuple[TensorRange, ...] = ()
    options: tuple[str, ...] = ()
    possible: bool = True


@dataclass(frozen=True, slots=True)
class Conversion:
    """The float model converted to another opset.

    Attributes:
        opset: of the default operator domain.
        without_defaults: inputs with a default value become constants before; the converter trips over some.
    """

    opset: int
    without_defaults: bool = False


@dataclass(frozen=True, slots=True)
class Remasking:
    """Another value for a constant that stands for minus infinity in front of a Softmax.

    Attributes:
        constant: its key.
        value: the new one.
    """

    constant: str
    value: float


@dataclass(frozen=True, slots=True)
class Divisors:
    """What channels of an activation are divided by where they are made; the layers that read them multiply again.

    Attributes:
        tensor: key of the activation.
        channels: which.
        factors: one for each of them.
    """

    tensor: str
    channels: tuple[int, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Rescaling:
    """Outlier channels of activations that are divided; the float model stays what it is."""

    divisors: tuple[Divisors, ...]


Rewriting = Remasking | Rescaling
"""A change of the float model that leaves its outputs what they are."""

Change = Requantisation | Conversion | Rewriting
"""What a run can try of a remedy."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a rule advises.

    Attributes:
        text: what to do, in words.
        otherwise: what to do where the change was tried and is not enough; the text is then no longer told.
        change: what a run can try of it.
        snippet: the exact call for it, where neither the change nor the list gives it.
        nodes_to_exclude: names of nodes that are to stay in float.
    """

    text: str
    otherwise: str = ""
    change: Change | None = None
    snippet: str = ""
    nodes_to_exclude: tuple[str, ...] = ()

    def within(self, lead: str = "", tail: str = "") -> Remedy:
        """The same with sentences before and after it, whatever comes of trying it."""

        def told(text: str) -> str:
            return " ".join(filter(None, (lead, text, tail))) if text else ""

        return replace(self, text=told(self.text), otherwise=told(self.otherwise))


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying a remedy.

    Attributes:
        said: in words, one sentence or two.
        before_db, after_db: SQNR (dB) at the worst output without and with it; None where that is identical. A
            conversion has nothing before it: after it is what the converted model has beside the file's.
        scheme: under which everything was quantised; empty where nothing was.
    """

    said: str
    before_db: float | None = None
    after_db: float | None = None
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Fixing:
    """What `onnxlint-q fix` does about a finding.

    Attributes:
        rewrites: names of those that change the model where the finding is.
        found: whether they were looked for and apply there; False where looking takes longer than linting.
        option: what `fix` has to be given for them; empty for nothing.
        tried: whether a run tried them.
        before_db, after_db: SQNR (dB) of the worst output without and with them; None where nothing is lost, or
            nothing was tried.
    """

    rewrites: tuple[str, ...]
    found: bool = True
    option: str = ""
    tried: bool = False
    before_db: float | None = None
    after_db: float | None = None

    def said(self, *, figures: bool = True) -> str:
        """A sentence; `figures` tells whether it holds those of a run."""
        command, names = f"`onnxlint-q fix{self.option and ' '}{self.option}`", ", ".join(self.rewrites)
        if not self.found:
            return f"{command} tries {names}."
        if not self.tried:
            return f"{command} applies this ({names}, untried)."
        if not figures or self.before_db is None:
            return f"{command} applies this ({names}, tried)."
        after = "no noise" if self.after_db is None else f"{self.after_db:.1f} dB"
        return f"{command} applies this ({names}): {self.before_db:.1f} → {after} (tried)."


@dataclass(frozen=True, slots=True)
class Location:
    """Where in the model: names may be empty or repeated, `graph` + `output` is the identity.

    Attributes:
        graph: path of the graph, `main` or `main/<output of the If>.then_branch` and so on.
        node: the node's name, for people; may be empty.
        op_type: operator, with its domain where it is not the default one.
        output: the first output of the node, or the tensor itself where no node is concerned.
    """

    graph: str = "main"
    node: str = ""
    op_type: str = ""
    output: str = ""

    @property
    def label(self) -> str:
        """The name to show: the node's, else its output's."""
        return self.node or self.output


@dataclass(frozen=True, slots=True)
class Silence:
    """Why a rule does not fire at a place where it looked; told to who debugs, and nowhere else.

    Attributes:
        location: where.
        unmet: the first of its conditions that is not met there, in words and with the number: `average precision 0.31
            is not under 0.25`.
    """

    location: Location
    unmet: str


class Suppressor(StrEnum):
    """Who said that a finding is known."""

    CONFIGURATION = "configuration"
    MODEL = "model"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Suppression:
    """Why a finding does not count: somebody said that it is known.

    Attributes:
        by: who.
        where: what to call the place where it stands.
        reason: in their words; empty for a baseline.
    """

    by: Suppressor
    where: str
    reason: str = ""


Metric = float | int | str | bool | None
"""A figure of a finding, by its name in `metrics`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of one rule about one place.

    Attributes:
        code: stable code of the rule, `QW001`.
        name: kebab-case name of the problem.
        severity: what it means for the release if true.
        confidence: how sure the rule is without a run.
        message: what is wrong here, one sentence, with the numbers.
        location: where.
        metrics: the numbers behind the message; units are in the key (`_db`, `_codes`, `_fraction`).
        remedy: what to do, in words; `advice` adds what came of trying it.
        snippet: the exact ONNX Runtime options for it, where there are any.
        nodes_to_exclude: names of nodes that it leaves in float.
        otherwise: the remedy where that was tried and is not enough.
        change: what a run can try of the remedy.
        tried: what came of it; None where it was not tried.
        claim: what a run can test.
        evidence: what stands behind it so far.
        measured_db: SQNR (dB) of the worst output that the test of the claim found.
        samples: how many the test took; None where it was not tested on data.
        note: why a claim is untested, or what the test saw beyond the number.
        causes: what made it so, one sentence a link, first cause first; findings that make the same claim have the
            same causes.
        cure: what a run can try out against it. Once it has, `metrics` holds `cure_float_sqnr_db`, the SQNR of the
            cured float model (null: its outputs are identical), and `cured_sqnr_db`, that of the cured and
            quantised weight.
        also: codes of rules that tell the same damage and left it to this finding; `metrics` holds their figures too.
        explains: by name of each scheme that it speaks of, the fraction of the noise that its tensors make.
        places: further ones where the same fault does the same.
        rewrites: names of those of `fix` that may cure it.
        fixing: what they do here; None where none applies.
        structure: identity that survives new names: of the rule, the operators around the place, their shapes, and the
            values of its weights. Empty until the result is assembled.
        suppression: why it does not count; None for one that does.
    """

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    message: str
    location: Location
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    remedy: str = ""
    snippet: str = ""
    claim: Claim | None = None
    evidence: Evidence = Evidence.STATIC
    measured_db: float | None = None
    note: str = ""
    causes: tuple[str, ...] = ()
    cure: Cure | None = None
    otherwise: str = ""
    nodes_to_exclude: tuple[str, ...] = ()
    change: Change | None = None
    tried: Tried | None = None
    also: tuple[str, ...] = ()
    explains: Mapping[str, float] = field(default_factory=dict)
    places: tuple[Location, ...] = ()
    rewrites: tuple[str, ...] = ()
    fixing: Fixing | None = None
    structure: str = ""
    suppression: Suppression | None = None
    samples: int | None = None

    @property
    def fingerprint(self) -> str:
        """Identity across runs and re-exports: rule and place, never numbers or node order."""
        where = self.location
        parts = (self.code, where.graph, where.output, where.op_type)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def advice(self) -> str:
        """The remedy, what came of trying it or that nobody has, and what `fix` does."""
        fixing = self.fixing.said(figures=self.tried is None) if self.fixing is not None else ""
        return " ".join(filter(None, (self.own_advice, fixing)))

    @property
    def own_advice(self) -> str:
        """The same without what `fix` does."""
        if self.tried is not None:
            return f"{self.remedy} {self.tried.said}".strip()
        if isinstance(self.change, Conversion):
            return f"{self.remedy} Untried: --probe and --calibrate try it."
        if self.change is None:
            return self.remedy
        rewriting = isinstance(self.change, Remasking | Rescaling) and self.otherwise
        instead = f" Or {self.otherwise[:1].lower()}{self.otherwise[1:]}" if rewriting else ""
        return f"{self.remedy}{instead} Untried."

    @property
    def counts(self) -> bool:
        """Whether it counts towards the exit code: a refuted finding does not."""
        return self.evidence is not Evidence.REFUTED

    def tested(self, evidence: Evidence, measured_db: float | None, note: str = "") -> Finding:
        """The same finding with the result of its test."""
        return replace(self, evidence=evidence, measured_db=measured_db, note=note)

    def on_samples(self, samples: int | None, count: int | None) -> Finding:
        """The same with how many of the samples its test took; that it took all goes without saying."""
        if samples is None or count is None or samples >= count or self.measured_db is None:
            return replace(self, samples=samples)
        said = f"Measured on {samples} of {count} samples, which decide."
        return replace(self, samples=samples, note=f"{self.note} {said}".strip())
