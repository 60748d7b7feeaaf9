"""`full`: what was quantised, for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.fix.phrases import scheme
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full.drawing import VERDICT_STYLE, drawn, indented, typed
from onnxlint_q.report.quantize import phrases
from onnxlint_q.report.tables.layout import Table
from onnxlint_q.workflow.mending.quantized import Quantized


def render(found: Quantized, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    return drawn(_report(found, look), look.width, look.colour)


def _report(found: Quantized, look: Look) -> Iterator[RenderableType]:
    yield Text(words.name(found.path) or "(no name)", "bold underline")
    yield Text(phrases.headline(found), "bold green" if found.reached else "bold red")
    yield Text(phrases.verification(found), "dim")
    for note in found.notes:
        yield Text(f"· {words.shown(note[:1].upper() + note[1:])}", "dim")
    yield Text()
    yield _verdicts(found)
    yield Text()
    table = Drawn.grid(padding=(0, 2))
    for what, said in phrases.lines(found):
        table.add_row(Text(what, "dim"), Text(said))
    yield indented(table, 2)
    if look.verbose or not found.reached:
        yield Text()
        yield from _attempts(phrases.attempts(found))
    if look.verbose:
        yield Text()
        yield Text("The same with ONNX Runtime alone", "bold")
        yield from typed(found.snippet, 2)
    yield Text()
    yield Text(f"Written: {words.name(found.out)}", "bold")
    yield Text(f"Recipe:  {words.name(found.recipe_file)}")
    yield Text(words.time_spent(found.seconds), "dim")


def _verdicts(found: Quantized) -> RenderableType:
    """Plain schemes of the float model, and the file that was written."""
    table = Drawn.grid(padding=(0, 2))
    for result in found.plain:
        figures = Text(scheme(result), VERDICT_STYLE[result.verdict])
        table.add_row(Text("plain", "dim"), Text(words.name(result.scheme, 80)), figures)
    held = found.result
    table.add_row(
        Text("written", "bold"),
        Text(words.name(held.scheme, 80), "bold"),
        Text(scheme(held), VERDICT_STYLE[held.verdict]),
    )
    return indented(table, 2)


def _attempts(table: Table) -> Iterator[RenderableType]:
    yield Text(table.title, "bold")
    made = Drawn(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    made.add_column(table.subject, no_wrap=True)
    for heading in table.headings:
        made.add_column(heading.text, justify="right" if heading.numeric else "left", no_wrap=True)
    for line in table.lines:
        made.add_row(Text(words.name(line.name, 40)), *(Text(cell.text) for cell in line.cells))
    yield indented(made, 2)
