"""`full`: what was quantised, for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich.console import RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases as fixing
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full.drawing import VERDICT_STYLE, drawn, fits, indented, stacked, typed
from onnxlint_q.report.full.screen import meanings
from onnxlint_q.report.layout import Table
from onnxlint_q.report.quantize import phrases
from onnxlint_q.workflow.mending.quantized import Quantized

_NOTHING = {"-", "0"}
_FIGURES = 64
"""Columns that the table of attempts takes beside the schemes' names."""
_LEAST_NAME = 18


def render(found: Quantized, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    if look.quiet:
        return "" if found.reached else f"{words.name(found.path, 4096)}: {phrases.headline(found)}\n"
    return drawn(_report(found, look), look.width, look.colour)


def _report(found: Quantized, look: Look) -> Iterator[RenderableType]:
    yield Text(words.name(found.path) or "(no name)", "bold underline")
    yield Text(phrases.headline(found), "bold green" if found.reached else "bold red")
    if warning := phrases.warning(found):
        yield Text(warning, "bold yellow")
    yield Text(phrases.verification(found), "dim")
    for note in found.notes:
        yield Text(f"· {words.shown(note[:1].upper() + note[1:])}", "dim")
    yield Text()
    verdicts = _verdicts(found)
    yield verdicts
    yield Text()
    table = Drawn.grid(padding=(0, 2))
    for what, said in phrases.lines(found):
        table.add_row(Text(what, "dim"), Text(said))
    yield indented(table, 2)
    if look.verbose or not found.reached:
        yield Text()
        yield from _attempts(phrases.attempts(found), look.width)
    if look.verbose:
        yield Text()
        yield Text("The same with ONNX Runtime alone", "bold")
        yield from typed(found.snippet, 2)
    yield Text()
    yield Text(f"{phrases.PLAIN} {meanings(drawn([verdicts], look.width, colour=False))}", "dim")
    if not look.verbose:
        yield Text("--verbose shows what was tried, and Python that makes this file with ONNX Runtime alone.", "dim")
    yield Text(f"Written: {words.name(found.out)}", "bold")
    yield Text(f"Recipe:  {words.name(found.recipe_file)}")
    yield Text(words.time_spent(found.seconds), "dim")


def _verdicts(found: Quantized) -> RenderableType:
    """Plain schemes of the float model, and the file that was written."""
    table = Drawn.grid(padding=(0, 2))
    for which, result in (*(("plain", one) for one in found.plain), ("written", found.result)):
        style = "bold" if which == "written" else "dim"
        table.add_row(
            Text(which, style),
            Text(words.name(result.scheme, 80), style),
            Text(fixing.verdict(result), VERDICT_STYLE[result.verdict]),
            Text(fixing.figures(result)),
        )
    return indented(table, 2)


def _attempts(table: Table, width: int) -> Iterator[RenderableType]:
    """Without columns that hold nothing in any row, so that 80 columns are enough."""
    yield Text(table.title, "bold")
    told = [at for at in range(len(table.headings)) if any(line.cells[at].text not in _NOTHING for line in table.lines)]
    made = Drawn(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    made.add_column(table.subject, no_wrap=True)
    for heading in (table.headings[at] for at in told):
        made.add_column(heading.text, justify="right" if heading.numeric else "left", no_wrap=True)
    for line in table.lines:
        name = "\n".join(wrap(words.name(line.name, 40), max(_LEAST_NAME, width - _FIGURES)))
        made.add_row(Text(name), *(Text(line.cells[at].text) for at in told))
    if fits(made, width - 2):
        yield indented(made, 2)
    else:
        yield from (indented(part, 2) for part in stacked(made))
