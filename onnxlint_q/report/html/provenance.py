"""Where a page comes from: the files, the data, and what made it; enough to make it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnxlint_q.report import words
from onnxlint_q.report.origin import Origin
from onnxlint_q.workflow.reading.inspection import InspectedModel
from onnxlint_q.workflow.results import CalibrationSummary, ModelResult

Row = tuple[str, str]
"""A word, and what there is to it."""


def of_model(model: ModelResult, origin: Origin) -> tuple[Row, ...]:
    """Of a model that was linted."""
    return tuple(_told((*_file("Model", model), *of_data(model.calibration), *made(origin))))


def of_model_file(name: str, model: ModelResult | InspectedModel) -> tuple[Row, ...]:
    """The file of a model that was linted or read; `name` is what it is, as `Old release`."""
    return tuple(_told(_file(name, model)))


def of_file(name: str, path: str, sha256: str, size: int = 0) -> tuple[Row, ...]:
    """One file; `name` is what it is, as `Float model`."""
    return tuple(
        _told(((name, words.name(path, 1000)), ("SHA-256", sha256), ("Size", words.size(size) if size else "")))
    )


def of_data(seen: CalibrationSummary | None) -> tuple[Row, ...]:
    """What a run was fed."""
    if seen is None:
        return (("Data", "none: no figure was measured"),)
    kind = "made up, " if seen.synthetic else ""
    held_out = f"{seen.held_out} others held out for the verdict" if seen.held_out else "none held out"
    return (
        ("Data", f"{kind}{words.name(seen.source, 400)}"),
        ("Samples", f"{seen.samples} for ranges and claims, {held_out}"),
        ("Preprocessing", words.shown(seen.preprocessing) or "none"),
        ("Ranges by", words.name(seen.observer, 60)),
    )


def made(origin: Origin) -> tuple[Row, ...]:
    """What made the page."""
    return tuple(
        _told(
            (
                ("Command", words.shown(origin.command)),
                ("Tool", words.versions(origin.versions)),
                ("Processor", words.shown(origin.processor, 200)),
                ("Made", origin.made),
            )
        )
    )


def _file(name: str, model: ModelResult | InspectedModel) -> Iterator[Row]:
    file = model.file
    yield from of_file(name, model.path or "(no name)", model.sha256, file.size)
    yield (
        "Format",
        f"{words.name(model.format, 40)}, opset {model.opset}"
        + (f", IR version {file.ir_version}" if file.ir_version else ""),
    )
    yield "Producer", words.name(file.producer, 200)
    yield "Configuration", words.name(file.configuration, 400) or "none, all defaults"


def _told(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row[1])
