"""`html`: what was read as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from onnxlint_q.report import words
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.html import page
from onnxlint_q.report.html.provenance import Row, made, of_data, of_model_file
from onnxlint_q.report.inspect import phrases
from onnxlint_q.report.inspect.json import render_compact
from onnxlint_q.report.layout import ROWS, Table
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Inspection,
)
from onnxlint_q.workflow.reading.values import (
    CalibrationSummary,
)


@dataclass(frozen=True, slots=True)
class _Part:
    """One file on the page."""

    model: InspectedModel
    tables: tuple[Table, ...]
    sentences: tuple[str, ...]


def render(inspection: Inspection, look: Look = PLAIN) -> str:
    """The page; of every path it tells the last part only, unless it is to tell them."""
    inspection = inspection if look.paths else _published(inspection)
    side = inspection.side_by_side
    return page(
        "inspect.html",
        look,
        render_compact(inspection),
        title=" and ".join(words.name(words.file_name(model.path), 60) for model in inspection.models),
        inspection=inspection,
        phrases=phrases,
        parts=tuple(_parts(inspection)),
        origin=_origin(inspection, look),
        sides=tuple(phrases.side_tables(inspection, side, ROWS)) if side is not None else (),
    )


def _parts(inspection: Inspection) -> Iterator[_Part]:
    """A page has room: of every table it tells all rows up to `ROWS`."""
    for model in inspection.models:
        tables: list[Table] = []
        sentences: tuple[str, ...] = ()
        if phrases.is_whole(inspection):
            tables += phrases.tables(model, inspection.by, ROWS, every=True)
        if model.sheet is not None:
            tables += phrases.sheet_tables(model.sheet, model, ROWS)
        if (done := model.rounded) is not None:
            tables.append(replace(phrases.rounded_table(done, model), legend=phrases.rounded_scale(done)))
            sentences = tuple(phrases.rounded_sentences(done))
        yield _Part(model, tuple(tables), sentences)


def _origin(inspection: Inspection, look: Look) -> tuple[Row, ...]:
    """The files, what they were fed, and what made the page."""
    files = (row for model in inspection.models for row in of_model_file("Model", model))
    seen = inspection.models[0].calibration if inspection.models else None
    return (*files, *(of_data(seen) if seen is not None else ()), *made(look.origin()))


def _published(inspection: Inspection) -> Inspection:
    """Names of files without the folders that they lie in."""
    return replace(
        inspection,
        models=tuple(
            replace(
                model,
                path=words.file_name(model.path),
                calibration=_source(model.calibration),
                file=replace(model.file, configuration=words.file_name(model.file.configuration)),
            )
            for model in inspection.models
        ),
    )


def _source(calibration: CalibrationSummary | None) -> CalibrationSummary | None:
    return None if calibration is None else replace(calibration, source=words.file_name(calibration.source))
