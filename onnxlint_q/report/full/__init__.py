"""`full`: the report for a terminal, 60 to 120 columns; without colour it is plain text that never changes.

First what a reader needs, on one screen: the verdicts, why, what to do, the findings by rule. The rest is asked for.
Several models stand side by side at the end, in up to 200 columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import RenderableType
from rich.text import Text

from onnxlint_q.report import digest, words
from onnxlint_q.report.concise import failing
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full import model, screen
from onnxlint_q.report.full.drawing import drawn
from onnxlint_q.report.full.summary import summary
from onnxlint_q.workflow.results import Run


def render(run: Run, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    if look.quiet:
        return "".join(f"{line}\n" for line in failing(run))
    body = tuple(_models(run, look))
    told = drawn(body, look.width, look.colour)
    if len(run.models) > 1:
        columns = look.columns or look.width
        told += drawn(summary(run, columns), columns, look.colour)
    return told + drawn(_end(run, body, look), look.width, look.colour)


def _end(run: Run, body: Sequence[RenderableType], look: Look) -> Iterator[RenderableType]:
    """What could not be linted, what words mean, and the totals."""
    if body and run.failures:
        yield Text()
    for failure in run.failures:
        yield Text(f"✖ could not be linted: {words.shown(failure.message)}", "bold red")
    # On one screen the verdicts stand above; but that nothing was found is no good news where they are none.
    one_screen = not look.verbose and len(run.models) == 1 and bool(digest.counted(run.models[0].findings))
    yield from screen.end(body, digest.totals(run) if one_screen else digest.summary(run), look)


def _models(run: Run, look: Look) -> Iterator[RenderableType]:
    for number, result in enumerate(run.models):
        if number:
            yield Text()
        if look.verbose:
            yield from model.everything(result)
        else:
            yield from screen.fitted(partial(model.brief, result), digest.totals(Run((result,))), look)
