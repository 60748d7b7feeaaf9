"""One model: what fits on the first screen, or everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.text import Text

from onnxlint_q.report import digest, words
from onnxlint_q.report.front import actions, reasons
from onnxlint_q.report.full import front, groups, verdicts
from onnxlint_q.report.full.drawing import notes
from onnxlint_q.report.full.screen import Detail
from onnxlint_q.report.full.tables import tables
from onnxlint_q.workflow.results import CalibrationSummary, ModelResult


def brief(model: ModelResult, detail: Detail) -> Iterator[RenderableType]:
    """Ship it or not, the verdicts, why, what to do first, and the findings by rule."""
    yield from _head(model, words.data)
    yield Text()
    yield front.decision(model, why=detail.doubts)
    if model.schemes:
        yield from verdicts.brief(model)
    why = [entry.opening(detail.sayings) for entry in reasons(model)[: detail.reasons]]
    yield from front.why(why)
    yield from front.to_do(actions(model), detail)
    yield from _nothing(model)
    yield from groups.brief(model, detail, [sentence for entry in why for sentence in entry.sentences])
    tried = model.trials.sentences if model.trials is not None else ()
    yield from notes((*tried, *model.notes), detail.notes)


def everything(model: ModelResult) -> Iterator[RenderableType]:
    """The same with every place, table and note."""
    yield from _head(model, words.calibration_words)
    yield Text()
    yield front.decision(model)
    if model.schemes:
        yield from verdicts.everything(model)
    yield from front.why(reasons(model))
    yield from front.to_do(actions(model))
    yield from _nothing(model)
    yield from groups.everything(model)
    yield from groups.suppressed(model)
    yield from tables(model)
    yield from notes(model.notes)
    if model.seconds:
        yield Text()
        yield Text(words.time_spent(model.seconds), "dim")


def _head(model: ModelResult, told: Callable[[CalibrationSummary], str]) -> Iterator[RenderableType]:
    yield Text(words.name(model.path) or "(no name)", "bold underline")
    data = f"; data {told(model.calibration)}" if model.calibration is not None else ""
    yield Text(f"{words.headline(model)}{data}", "dim")
    for warning in words.warnings(model):
        yield Text(f"▲ {warning}", "bold yellow")


def _nothing(model: ModelResult) -> Iterator[RenderableType]:
    if not digest.counted(model.findings):
        clean = digest.clean(model)
        mark, style = ("✔ ", "green") if clean else ("", "")
        yield Text()
        yield Text(f"{mark}{words.nothing_found(model)}", style)
