"""The verdicts of a model, a line or two each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.full.drawing import VERDICT_STYLE, indented
from onnxlint_q.workflow.results import CalibrationSummary, ModelResult, SchemeResult


def brief(model: ModelResult) -> Iterator[RenderableType]:
    """The figures of each scheme and what weakens them; what they rest on once for all."""
    yield _table((result, (words.brief_reason(result), *words.weakness(result))) for result in model.schemes)
    for line in filter(None, (*words.grounds(model), words.limits(model))):
        yield indented(Text(line, "dim"), 2)


def everything(model: ModelResult) -> Iterator[RenderableType]:
    """All figures of each scheme, and what each was measured as."""
    yield _table((result, _lines(result, model.calibration)) for result in model.schemes)


def _lines(result: SchemeResult, calibration: CalibrationSummary | None) -> Iterator[str]:
    said = (words.likeliest(result), words.reason(result), words.basis(result, calibration))
    yield "; ".join(filter(None, said))
    yield words.mended(result)
    yield words.shown(result.in_float)
    if result.top1 is not None:
        yield words.accuracy(result.top1)
    yield from words.outputs(result)
    yield words.note(result)
    yield words.deciding(result)


def _table(rows: Iterable[tuple[SchemeResult, Iterable[str]]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=24, overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for result, lines in rows:
        first, *others = filter(None, lines)
        verdict = Text(words.marked_verdict(result), VERDICT_STYLE[words.shown_as(result)])
        table.add_row(Text(words.name(result.scheme, 80), "bold"), verdict, Text(first))
        for line in others:
            table.add_row("", "", Text(line[:1].upper() + line[1:], "dim"))
    return indented(table, 2)
