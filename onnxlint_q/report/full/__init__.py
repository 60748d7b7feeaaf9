"""`full`: the report for a terminal, 80 to 120 columns; without colour it is plain text that never changes.

First what a reader needs, on one screen: the verdicts, why, what to do, the findings by rule. The rest is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rich.console import RenderableType
from rich.text import Text

from onnxlint_q.report import digest, words
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full import model, screen
from onnxlint_q.report.full.drawing import drawn
from onnxlint_q.workflow.results import Run


def render(run: Run, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    return drawn(_run(run, look), look.width, look.colour)


def _run(run: Run, look: Look) -> Iterator[RenderableType]:
    body = tuple(_models(run, look))
    yield from body
    if body and run.failures:
        yield Text()
    for failure in run.failures:
        yield Text(f"✖ could not be linted: {words.shown(failure.message)}", "bold red")
    # On one screen the verdicts stand above.
    one_screen = not look.verbose and len(run.models) == 1
    yield from screen.end(body, digest.totals(run) if one_screen else digest.summary(run), look)


def _models(run: Run, look: Look) -> Iterator[RenderableType]:
    for number, result in enumerate(run.models):
        if number:
            yield Text()
        if look.verbose:
            yield from model.everything(result)
        else:
            yield from screen.fitted(partial(model.brief, result), digest.totals(Run((result,))), look)
