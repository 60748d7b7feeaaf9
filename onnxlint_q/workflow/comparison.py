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
    """

    path: str
    sha256: str
    opset: int
    format: str
    layers: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two files, layer by layer.

    Attributes:
        reference: the float file.
        quantized: the other, told like a model that `check` linted: `schemes` holds the one verdict on it, `findings`
            those of the comparison, first jump first, and those of the file itself.
        classifier: both files' class scores; None where the model is no classifier.
        rows: in the data order of the quantised file.
        unpaired_reference, unpaired_quantized: operators without a partner, `operator (type)`.
        not_compared: rows that were paired and cannot be compared: of another shape when run, or codes without a scale.
        levels: options of the rules about a pair, by name.
    """

    reference: ComparedFile
    quantized: ModelResult
    classifier: ClassifierError | None
    rows: tuple[ComparedRow, ...]
    unpaired_reference: tuple[str, ...] = ()
    unpaired_quantized: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)

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
        """Those of the comparison, first jump first, and those of the quantised file itself."""
        return self.quantized.findings

    @property
    def fails(self) -> bool:
        """Whether a build should fail, as of a model that was linted."""
        return self.quantized.fails

    @property
    def jumps(self) -> tuple[ComparedRow, ...]:
        """Rows where the error jumps and does not heal, first one first."""
        return tuple(row for row in self.rows if self.faults(row))

    def faults(self, row: ComparedRow) -> tuple[Finding, ...]:
        """What makes the error jump at `row`; empty where it does not, or heals."""
        told = (finding for finding in self.quantized.findings if finding.metrics.get("jump_at") == row.quantized)
        return tuple(finding for finding in told if finding.counts and finding.severity is not Severity.INFO)
