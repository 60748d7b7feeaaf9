"""What `check` was asked for, and what it knows of one model so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER, OBSERVERS
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.limits import DEFAULT_SAMPLES, MOST_SAMPLES, PROVING, USUAL, Asked
from onnxlint_q.finding import Finding
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.own_findings import OwnFinding
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.budget.spending import NO_BUDGET, Spending

if TYPE_CHECKING:  # a static check fills none of these
    from onnxlint_q.execute.data.source import Source
    from onnxlint_q.execute.data.split import Split
    from onnxlint_q.execute.half.run import HalfRun
    from onnxlint_q.execute.variants.experiment_runs import Errors
    from onnxlint_q.execute.variants.workbench import Workbench
    from onnxlint_q.proof.costs import Costs
    from onnxlint_q.proof.joint_remedy import JointTrial
    from onnxlint_q.proof.mending.transaction import Mended
    from onnxlint_q.proof.mending.trial import Mending
    from onnxlint_q.proof.probing.probe import Probe
    from onnxlint_q.proof.prove import Proof
    from onnxlint_q.proof.whole import Whole
    from onnxlint_q.workflow.results import TakenShape, Trials

QUANTISED_ALREADY = "the model is quantised already"
"""Why a run that quantises a model does not happen to one."""
MOST_TRIALS = 100


@dataclass(frozen=True, slots=True)
class DataRequest:
    """What to do with calibration data.

    Attributes:
        source: where samples come from.
        samples: how many to calibrate on, and how many others to judge on, at most.
        observer: how ranges are taken from them, one of analysis.observed.observers.
        layers: quantise every layer alone as well, weight, result and both.
        trials: on how many disjoint subsets to calibrate again; 0 for none.
        labels: the class of each sample, or the file that holds them; None without.
        prove: how much of what was found, one of execute.limits.PROVING.

    Raises:
        UsageError: a value is none that can be used.
    """

    source: Source
    samples: int = DEFAULT_SAMPLES
    observer: str = DEFAULT_OBSERVER
    layers: bool = False
    trials: int = 0
    labels: Path | Sequence[int] | None = None
    prove: str = PROVING[0]

    def __post_init__(self) -> None:
        if not 0 < self.samples <= MOST_SAMPLES:
            raise UsageError(f"samples {self.samples}: ask for 1 to {MOST_SAMPLES}")
        if self.observer not in OBSERVERS:
            raise UsageError(f"observer {self.observer!r}: choose from {', '.join(OBSERVERS)}")
        if self.prove not in PROVING:
            raise UsageError(f"prove {self.prove!r}: choose from {', '.join(PROVING)}")
        if self.trials == 1:
            raise UsageError("trials 1: one alone has no spread; ask for at least 2")
        if not 0 <= self.trials <= MOST_TRIALS:
            raise UsageError(f"trials {self.trials}: ask for 2 to {MOST_TRIALS}, or 0 for none")
        if self.labels is not None and self.source.synthetic:
            raise UsageError("labels have no effect on random data: noise has no class; give samples")
        if isinstance(self.labels, Path) and not self.labels.is_file():
            raise UsageError(
                f"labels {self.labels}: there is no such file; name lines of `file name, class index`, or an .npy"
            )


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What may be run; nothing by default.

    Attributes:
        data: run the model on calibration data; None for a static run.
        probe: run it on synthetic inputs.
        fix_preview: with data, try what `fix` would do.
        input_shapes: shapes that inputs are to have, by name.
        ended: how an earlier attempt to run the model ended its process, so that none is made again; empty without.
        debug: stay in this process, and keep why rules did not fire.
        page: take what only a page shows: pictures of findings, and what the file is.
        fresh: this process is another program's, so the one apart must not be a copy of it.
        asked: what each model may take.
    """

    data: DataRequest | None = None
    probe: bool = False
    fix_preview: bool = False
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ended: str = ""
    debug: bool = False
    page: bool = False
    fresh: bool = False
    asked: Asked = USUAL

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
        inputs: the shapes that inputs are taken to have where the file leaves more than a batch open.
        split: which samples ranges are taken from and which the verdict is measured on; of the stage `inspect`.
        bench: the folded float model that experiments change; `observe` adds the ranges that it saw.
        probe: the run on synthetic inputs.
        half: the network in simulated float16.
        labels: the class of each sample, where a file says it.
        table: every layer alone, quantised on the data.
        whole: the schemes, measured end to end.
        costs: every tensor alone, under the schemes that the model does not survive.
        judged: the findings of all rules, before any of their claims was tested.
        proof: the findings tested.
        mendings: what rewrites do that leave the float outputs what they are, one on top of the other.
        advised: the findings with what came of trying their remedies.
        joint: by scheme that does not survive, what leaving nodes in float together does.
        trials: calibrations on disjoint subsets.
        mended: the model with every rewrite of `fix` that helps.
        debug: why rules did not fire, a line each; empty unless asked for.
        not_run: what was asked for and did not happen.
        spending: what proving may take, once the model has been measured whole.
        left_out: what the budget left out, a few words each.
        seconds: wall time by stage.
    """

    request: CheckRequest
    rules: tuple[Rule, ...]
    config: Config
    facts: Facts
    inputs: tuple[TakenShape, ...] = ()
    split: Split | None = None
    bench: Workbench | None = None
    probe: Probe | None = None
    half: HalfRun | None = None
    labels: Sequence[int] | None = None
    debug: tuple[str, ...] = ()
    table: Errors | None = None
    whole: Whole | None = None
    costs: Costs | None = None
    judged: tuple[Finding, ...] = ()
    proof: Proof | None = None
    mendings: tuple[Mending, ...] = ()
    advised: tuple[Finding, ...] | None = None
    joint: Mapping[str, JointTrial] | None = None
    trials: Trials | None = None
    mended: Mended | None = None
    not_run: tuple[NotRun, ...] = ()
    spending: Spending = NO_BUDGET
    left_out: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules said, tested and their remedies tried where that could be done."""
        if self.advised is not None:
            return self.advised
        return self.proof.findings if self.proof is not None else self.judged

    @property
    def alone(self) -> Errors:
        """What tensors cost alone, as far as it was measured before any claim."""
        return {**(self.costs.errors if self.costs is not None else {}), **(self.table or {})}
