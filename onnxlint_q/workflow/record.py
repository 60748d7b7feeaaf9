"""What `check` was asked for, and what it knows of one model so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Finding
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.own_findings import OwnFinding
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.probe import Probe
from onnxlint_q.proof.prove import Proof
from onnxlint_q.workflow.results import Trials

QUANTISED_ALREADY = "the model is quantised already"
"""Why a run that quantises a model does not happen to one."""


@dataclass(frozen=True, slots=True)
class DataRequest:
    """What to do with calibration data.

    Attributes:
        source: where samples come from.
        samples: how many to calibrate on.
        observer: how ranges are taken from them, one of analysis.observed.observers.
        layers: quantise every layer alone as well, weight, result and both.
        trials: on how many disjoint subsets to calibrate again; 0 for none.
    """

    source: Source
    samples: int = 32
    observer: str = DEFAULT_OBSERVER
    layers: bool = False
    trials: int = 0


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What may be run; nothing by default.

    Attributes:
        data: run the model on calibration data; None for a static run.
        probe: run it on synthetic inputs.
        ended: how an earlier attempt to run the model ended its process, so that none is made again; empty without.
        debug: stay in this process, and keep why rules did not fire.
    """

    data: DataRequest | None = None
    probe: bool = False
    ended: str = ""
    debug: bool = False

    @property
    def runs(self) -> bool:
        """Whether the model is to be run at all."""
        return (self.data is not None or self.probe) and not self.ended


@dataclass(frozen=True, slots=True)
class NotRun:
    """A run that was asked for and did not happen.

    Attributes:
        kind: which of the linter's own findings says so.
        option: what asked for it.
        what: what did not happen, in words.
        reason: why, in words.
    """

    kind: OwnFinding
    option: str
    what: str
    reason: str


@dataclass(frozen=True, eq=False)
class Record:
    """Everything that is known of one model. Each stage of `check` fills one field; None where it did not run.

    Attributes:
        request, rules, config: what was asked for.
        facts: what the file tells; the stages `inspect` and `observe` add what they saw to it.
        bench: the folded float model that experiments change; `observe` adds the ranges that it saw.
        probe: the run on synthetic inputs.
        judged: the findings of all rules, before any of their claims was tested.
        table: every layer alone, quantised on the data.
        proof: the findings tested, and the schemes measured.
        advised: the findings with what came of trying their remedies.
        trials: calibrations on disjoint subsets.
        debug: why rules did not fire, a line each; empty unless asked for.
        not_run: what was asked for and did not happen.
        seconds: wall time by stage.
    """

    request: CheckRequest
    rules: tuple[Rule, ...]
    config: Config
    facts: Facts
    bench: Workbench | None = None
    probe: Probe | None = None
    judged: tuple[Finding, ...] = ()
    debug: tuple[str, ...] = ()
    table: Errors | None = None
    proof: Proof | None = None
    advised: tuple[Finding, ...] | None = None
    trials: Trials | None = None
    not_run: tuple[NotRun, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules said, tested and their remedies tried where that could be done."""
        if self.advised is not None:
            return self.advised
        return self.proof.findings if self.proof is not None else self.judged
