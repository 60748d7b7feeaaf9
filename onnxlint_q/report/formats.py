"""The formats a run can be told in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

from onnxlint_q.result import Run


@dataclass(frozen=True, slots=True)
class Look:
    """How text for a terminal is laid out; only `full` uses it.

    Attributes:
        width: columns.
        colour: with ANSI colours; without, the output is plain text.
    """

    width: int = 100
    colour: bool = False


PLAIN = Look()


class ReportFormat(StrEnum):
    """Every format by its name on the command line; the module `onnxlint_q.report.<name>` has `render`."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    HTML = "html"


def render(run: Run, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline. The same run gives the same text."""
    module = import_module(f"{__package__}.{report_format.value}")
    if report_format is ReportFormat.FULL:
        render_full: Callable[[Run, int, bool], str] = module.render
        return render_full(run, look.width, look.colour)
    renderer: Callable[[Run], str] = module.render
    return renderer(run)
