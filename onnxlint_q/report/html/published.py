"""What a page may tell when it leaves the machine: names of files, never the folders that they lie in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnxlint_q.finding import Finding, Suppression, Suppressor
from onnxlint_q.report.words import file_name
from onnxlint_q.workflow.comparison import (
    Comparison,
)
from onnxlint_q.workflow.results import (
    CalibrationSummary,
    Failure,
    ModelResult,
    Run,
)

_SEPARATORS = ("/", "\\")


def published(run: Run) -> Run:
    """The run with the last part of every path that was typed."""
    paths = [model.path for model in run.models] + [failure.path for failure in run.failures]
    paths += [model.calibration.source for model in run.models if model.calibration is not None]
    paths += [run.data] if run.data else []
    return Run(
        tuple(_model(model, paths) for model in run.models),
        tuple(_failure(failure, paths) for failure in run.failures),
    )


def published_comparison(comparison: Comparison) -> Comparison:
    """The comparison with the last part of every path that was typed."""
    paths = [comparison.reference.path, comparison.quantized.path, comparison.calibration.source]
    return replace(
        comparison,
        reference=replace(
            comparison.reference,
            path=file_name(comparison.reference.path),
            findings=tuple(_finding(finding, paths) for finding in comparison.reference.findings),
        ),
        quantized=_model(comparison.quantized, paths),
    )


def published_releases(old: ModelResult, new: ModelResult) -> tuple[ModelResult, ModelResult]:
    """Two releases with the last part of every path that was typed."""
    before, after = published(Run((old, new))).models
    return before, after


def _model(model: ModelResult, paths: Sequence[str]) -> ModelResult:
    return replace(
        model,
        path=file_name(model.path),
        calibration=_calibration(model.calibration) if model.calibration is not None else None,
        findings=tuple(_finding(finding, paths) for finding in model.findings),
        suppressed=tuple(_finding(finding, paths) for finding in model.suppressed),
        untested_because=_prose(model.untested_because, paths),
        notes=tuple(_prose(note, paths) for note in model.notes),
        file=replace(model.file, configuration=file_name(model.file.configuration)),
    )


def _finding(finding: Finding, paths: Iterable[str]) -> Finding:
    why = finding.suppression
    known = None if why is None else replace(why, where=_place(why))
    return replace(finding, message=_prose(finding.message, paths), suppression=known)


def _place(why: Suppression) -> str:
    """Where a suppression stands, as `[[suppress]] 1 of onnxlint-q.toml`; what a model says of itself stays."""
    if why.by is Suppressor.MODEL:
        return why.where
    entry, of, path = why.where.rpartition(" of ")
    return f"{entry}{of}{file_name(path)}"


def _failure(failure: Failure, paths: Iterable[str]) -> Failure:
    """An error starts with the file that it is about, which need not be the model: `data/batch.npz: is empty`."""
    message = _prose(failure.message, paths)
    subject, colon, rest = message.partition(": ")
    return Failure(file_name(failure.path), f"{file_name(subject)}{colon}{rest}" if colon else message)


def _calibration(calibration: CalibrationSummary) -> CalibrationSummary:
    return replace(calibration, source=file_name(calibration.source))


def _prose(text: str, paths: Iterable[str]) -> str:
    """`text` with the paths in it shortened, longest first as one may be the beginning of another.

    A path of one part stays: it tells nothing, and may be a word of the text.
    """
    for path in sorted(set(paths), key=lambda path: (-len(path), path)):
        if any(separator in path for separator in _SEPARATORS):
            text = text.replace(path, file_name(path))
    return text
