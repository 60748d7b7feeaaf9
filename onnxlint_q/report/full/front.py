"""Whether to ship a model, why it fails and what to do, as the first screen and the whole report have it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report.front import Action, Why, because, decisions, headline
from onnxlint_q.report.full.drawing import indented, typed
from onnxlint_q.report.full.screen import Detail
from onnxlint_q.workflow.results import ModelResult


def decision(model: ModelResult, *, why: bool = True) -> Text:
    """The calls on all schemes in a sentence or two, and unless there is no room what they rest on beside verdicts."""
    found = decisions(model)
    return Text(" ").join([Text(headline(found), "bold"), Text(because(model, found) if why else "")])


def why(told: Sequence[Why]) -> Iterator[RenderableType]:
    """A paragraph for each."""
    if told:
        yield Text()
    for entry in told:
        yield paragraph(entry.title, entry.sentences)


def paragraph(title: str, sentences: Sequence[str]) -> Text:
    """Sentences behind what they are about."""
    return Text.assemble((f"{title}: ", "bold"), " ".join(sentences))


def to_do(found: Sequence[Action], detail: Detail | None = None) -> Iterator[RenderableType]:
    """Numbered, each with its call and the rules that advise it; only the first ones where there is little room."""
    shown = found if detail is None else found[: detail.steps]
    if not shown:
        return
    yield Text()
    yield Text("Do this", "bold")
    for number, action in enumerate(shown, start=1):
        text = action.told(None if detail is None else detail.advice)
        lines = action.snippet.count("\n") + 1 if action.snippet else 0
        fits = detail is None or lines <= (detail.call if number == 1 else (detail.call + 1) // 2)
        more = "" if fits else " The call is in --verbose."
        codes = f" ({', '.join(action.codes)})" if action.codes else ""
        table = Table.grid(padding=(0, 1))
        table.add_row(Text(f"{number}.", "bold"), Text.assemble(f"{text}{more}", (codes, "dim")))
        yield indented(table, 2)
        if lines and fits:
            yield from typed(action.snippet, 5)
