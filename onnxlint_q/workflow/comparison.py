"""Two files side by side: what `compare` produced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.analysis.observed.compared import ClassifierError, ComparedRow
from onnxlint_q.finding import Finding, Severity
from onnxlint_q.workflow.results import CalibrationSummary, ModelResult, Run, SchemeResult


@dataclass(frozen=True, slots=True)
class ComparedFile:
    """The file that another is compared with.

    Attributes:
        layers: how many it has.
        findings: on it, as far as they are about what the quantised file does; they do not count.
    """

    path: str
    sha256: str
    opset: int
    format: str
    layers: int
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two files, layer by layer.

    Attributes:
        reference: the float file.
        quantized: the other, told like a model that `check` linted: `schemes` holds the one verdict on it, `findings`
            those of the comparison and those of the file itself, first what spoils the output that decides.
        classifier: both files' class scores; None where the model is no classifier.
        rows: in the data order of the quantised file.
        unpaired_reference, unpaired_quantized: operators without a partner, `operator (type)`.
        not_compared: rows that were paired and cannot be compared: of another shape when run, or codes without a scale.
        levels: options of the rules about a pair, by name.
        deciding: key of the row that decides the verdict: of an output, or of a branch that one joins.
    """

    reference: ComparedFile
    quantized: ModelResult
    classifier: ClassifierError | None
    rows: tuple[ComparedRow, ...]
    unpaired_reference: tuple[str, ...] = ()
    unpaired_quantized: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    deciding: str = ""

    @property
    def result(self) -> SchemeResult:
        """The verdict on the quantised file."""
        return self.quantized.schemes[0]

    @property
    def as_run(self) -> Run:
        """The quantised file like one that `check` linted."""
        return Run((self.quantized,), data=self.calibration.source)

    @property
    def calibration(self) -> CalibrationSummary:
        """What both files ran on."""
        assert self.quantized.calibration is not None
        return self.quantized.calibration

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of the comparison and of the quantised file itself, first what spoils the output that decides."""
        return self.quantized.findings

    @property
    def fails(self) -> bool:
        """Whether a build should fail, as of a model that was linted."""
        return self.quantized.fails

    @property
    def jumps(self) -> tuple[ComparedRow, ...]:
        """Rows where the error jumps and does not heal, first one first."""
        return tuple(row for row in self.rows if self.faults(row))

    @property
    def leading(self) -> Finding | None:
        """What spoils the output that decides the verdict, first of all; None where nothing jumps that lasts."""
        own = self.result.scheme
        told = (one for one in self.quantized.findings if "jump_at" in one.metrics or own in one.explains)
        return next((finding for finding in told if finding.counts and finding.severity is not Severity.INFO), None)

    @property
    def spoiling(self) -> tuple[ComparedRow, ...]:
        """Rows that the one which decides is made of, that one last; all rows where none decides."""
        if not self.deciding:
            return self.rows
        wanted = {self.deciding}
        for row in reversed(self.rows):
            if row.quantized in wanted:
                wanted.update(row.reads)
        return tuple(row for row in self.rows if row.quantized in wanted)

    def faults(self, row: ComparedRow) -> tuple[Finding, ...]:
        """What makes the error jump at `row`; empty where it does not, or heals."""
        told = (finding for finding in self.quantized.findings if finding.metrics.get("jump_at") == row.quantized)
        return tuple(finding for finding in told if finding.counts and finding.severity is not Severity.INFO)
