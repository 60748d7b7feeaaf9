"""`full`: a comparison for a terminal, as the report on a model: what fits on one screen, and the rest on demand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rich.console import RenderableType
from rich.text import Text

from onnxlint_q.report import digest, words
from onnxlint_q.report.compare import phrases
from onnxlint_q.report.compare.full.rows import table
from onnxlint_q.report.concise import failing
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.front import actions
from onnxlint_q.report.full import front, groups, screen, verdicts
from onnxlint_q.report.full.drawing import drawn, indented, notes
from onnxlint_q.report.full.screen import Detail
from onnxlint_q.workflow.comparison import (
    Comparison,
)
from onnxlint_q.workflow.results import (
    Run,
)


def render(comparison: Comparison, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    if look.quiet:
        return "".join(f"{line}\n" for line in failing(Run((comparison.quantized,))))
    return drawn(_report(comparison, look), look.width, look.colour)


def _report(comparison: Comparison, look: Look) -> Iterator[RenderableType]:
    summary = digest.totals(Run((comparison.quantized,)))
    whole = tuple(_everything(comparison, look.width)) if look.verbose else ()
    body = whole or screen.fitted(partial(_brief, comparison), summary, look)
    yield from body
    yield from screen.end(body, summary, look)


def _brief(comparison: Comparison, detail: Detail) -> Iterator[RenderableType]:
    model = comparison.quantized
    yield from _head(comparison)
    yield from verdicts.brief(model)
    why = phrases.cause(comparison)
    yield Text()
    yield front.paragraph(phrases.CAUSE, why)
    yield from front.to_do(actions(model), detail)
    yield from groups.brief(model, detail, why)
    yield from notes(phrases.notes(comparison), detail.notes)


def _everything(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    model = comparison.quantized
    yield from _head(comparison)
    yield from verdicts.everything(model)
    if comparison.classifier is not None:
        yield indented(Text(phrases.classifier(comparison.classifier)), 2)
    yield Text()
    yield front.paragraph(phrases.CAUSE, phrases.cause(comparison))
    yield from front.to_do(actions(model))
    yield from groups.everything(model)
    yield from groups.suppressed(model)
    yield Text()
    yield from table(comparison, width)
    yield from notes(phrases.notes(comparison))
    if model.seconds:
        yield Text()
        yield Text(words.time_spent(model.seconds), "dim")


def _head(comparison: Comparison) -> Iterator[RenderableType]:
    yield Text(words.name(comparison.quantized.path) or "(no name)", "bold underline")
    yield Text(phrases.headline(comparison), "dim")
    yield Text(f"data {words.calibration_words(comparison.calibration)}; {phrases.paired(comparison)}", "dim")
    for warning in phrases.warnings(comparison):
        yield Text(f"▲ {warning}", "bold yellow")
    yield Text()
