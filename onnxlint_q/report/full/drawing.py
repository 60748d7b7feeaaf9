"""How text gets onto a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxlint_q.finding import Evidence, Severity
from onnxlint_q.report import words
from onnxlint_q.workflow.results import Verdict

SEVERITY_STYLE = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
VERDICT_STYLE = {
    Verdict.BREAKS: "bold red",
    Verdict.DEGRADES: "bold yellow",
    Verdict.SURVIVES: "bold green",
    Verdict.UNCERTAIN: "bold",
    None: "bold",
}
EVIDENCE_STYLE = {Evidence.CONFIRMED: "bold", Evidence.REFUTED: "dim"}


def drawn(content: Iterable[RenderableType], width: int, colour: bool) -> str:
    """What rich draws of `content`, without blanks at the ends of lines."""
    # _environ: what is drawn follows the arguments alone, never COLUMNS, FORCE_COLOR or a notebook.
    console = Console(
        file=io.StringIO(),
        width=width,
        color_system="standard" if colour else None,
        force_terminal=colour,
        no_color=not colour,
        force_jupyter=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ={},
    )
    with console.capture() as capture:
        for part in content:
            # What is to be typed goes on beyond the width: a break within it would be typed as well.
            # Within a group, because what is printed by itself loses that it does not wrap.
            console.print(Group(part), crop=False)
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def height(content: Iterable[RenderableType], width: int) -> int:
    """How many lines `content` takes."""
    return drawn(content, width, colour=False).count("\n")


def indented(content: RenderableType, columns: int) -> RenderableType:
    """`content` so many columns to the right."""
    return Padding(content, (0, 0, 0, columns))


def fits(table: Table, width: int) -> bool:
    """Whether every cell of a table stays whole in so many columns; one that may be folded needs its least width."""
    gap = table.padding[1]
    needed = 0
    for column in table.columns:
        cells = [text for text in (column.header, *column.cells) if isinstance(text, (str, Text))]
        longest = max((cell_len(line) for text in cells for line in str(text).split("\n")), default=0)
        needed += (longest if column.no_wrap else column.min_width or longest) + gap
    return needed - gap <= width


def stacked(table: Table, main: int = 0) -> Iterator[RenderableType]:
    """The rows of a table that is too wide, a paragraph each: the cell of column `main`, and below it the others."""
    heads = [str(column.header).replace("\n", " ") for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        texts = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells]
        marks = [text for text, head in zip(texts[:main], heads, strict=False) if text.plain and not head]
        yield Text(" ").join([*marks, texts[main]])
        said = [
            Text.assemble((f"{head} " if head else "", "dim"), text)
            for at, (head, text) in enumerate(zip(heads, texts, strict=True))
            if text.plain not in {"", "-"} and at != main and not (at < main and not head)
        ]
        if said:
            yield indented(Text(", ").join(said), 2)


def typed(snippet: str, columns: int = 4) -> Iterator[Text]:
    """Lines of what is to be typed, as they are."""
    for line in snippet.splitlines():
        yield Text(" " * columns + words.shown(line, 2000), "cyan", no_wrap=True, overflow="ignore")


def notes(told: Iterable[str], limit: int | None = None) -> Iterator[RenderableType]:
    """A heading and a line for each, or for the first ones."""
    shown = tuple(told)[:limit]
    if shown:
        yield Text()
        yield Text("Notes", "bold")
    for note in shown:
        text = words.shown(note)
        yield indented(Text(f"· {text[:1].upper()}{text[1:]}", "dim"), 2)
