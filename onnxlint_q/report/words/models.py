"""What is said of a model as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnxlint_q import __version__
from onnxlint_q.report.words.names import name, shown, visible
from onnxlint_q.report.words.numbers import count, number
from onnxlint_q.workflow.results import CalibrationSummary, ModelResult, Verdict

SYNTHETIC = (
    "Synthetic calibration: the model ran on random values, not on data. Every measured figure here may differ on "
    "real inputs; do not release on it."
)
CRASHED = "A rule crashed, so this report is incomplete. Do not take a missing finding for a clean model."


def calibration_words(calibration: CalibrationSummary) -> str:
    """What the run was fed, on one line."""
    divided = f" for ranges, {count(calibration.held_out, 'other')} for the verdict" if calibration.held_out else ""
    preprocessing = f", {shown(calibration.preprocessing)}" if calibration.preprocessing else ""
    ranges = f", ranges by {name(calibration.observer, 40)}" if calibration.observer != "min-max" else ""
    return f"{name(calibration.source)}: {count(calibration.samples, 'sample')}{divided}{preprocessing}{ranges}"


def data(calibration: CalibrationSummary) -> str:
    """What the run was fed in a few words: the source, and how samples were prepared but for the arithmetic."""
    prepared = shown(calibration.preprocessing).partition(",")[0]
    return f"{name(calibration.source, 80)}{f' ({prepared})' if prepared else ''}"


def warnings(model: ModelResult) -> tuple[str, ...]:
    """What the reader must know before any figure."""
    said = []
    if model.rule_crashed:
        said.append(CRASHED)
    if model.calibration is not None and model.calibration.synthetic:
        said.append(SYNTHETIC)
    return tuple(said)


def nothing_found(model: ModelResult) -> str:
    """That no rule found anything that counts, and what this does not mean."""
    refuted = any(not finding.counts for finding in model.findings)
    text = "no findings that count" if refuted else "no findings"
    known = f" beside {len(model.suppressed)} suppressed" if model.suppressed else ""
    if any(result.verdict in (Verdict.BREAKS, Verdict.DEGRADES) for result in model.schemes):
        return f"{text}{known}" if known else f"{text}: no rule says where the loss comes from"
    if known or (model.schemes and all(result.verdict is Verdict.SURVIVES for result in model.schemes)):
        return f"{text}{known}"
    return "no rule fired, which does not show that the model survives"


def headline(model: ModelResult) -> str:
    """`float model, opset 13, 53 layers`."""
    return f"{visible(model.format)} model, opset {model.opset}, {count(len(model.layers), 'layer')}"


def versions(libraries: Iterable[tuple[str, str]]) -> str:
    """`onnxlint-q 0.1.0, python 3.11.2, onnx 1.17.0`: the tool and what its figures depend on."""
    return ", ".join((f"onnxlint-q {__version__}", *(f"{library} {version}" for library, version in libraries)))


def time_spent(seconds: Mapping[str, float]) -> str:
    """`time: read 0.1 s, run 2.0 s`."""
    return "time: " + ", ".join(f"{name(stage, 30)} {number(spent)} s" for stage, spent in seconds.items())
