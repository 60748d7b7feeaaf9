"""The formats a run can be told in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING

from onnxlint_q.report.origin import Origin

if TYPE_CHECKING:
    from onnxlint_q.workflow.results import Run


@dataclass(frozen=True, slots=True)
class Look:
    """How a report for people is laid out, and what it tells of its making.

    Attributes:
        width: columns of lines to be read, in `full`.
        colour: with ANSI colours, in `full`; without, the output is plain text.
        verbose: with every place, table and note, in `full`, not the first screen alone.
        paths: with paths as they were typed, in `html`, not their last parts.
        origin: tells where the report comes from, in `html`.
        quiet: in `full` only what fails a build, a line each.
        columns: of the table of models, in `full`, which may be wider than lines to be read; None for `width`.
    """

    width: int = 100
    colour: bool = False
    verbose: bool = False
    paths: bool = False
    origin: Callable[[], Origin] = Origin
    quiet: bool = False
    columns: int | None = None


PLAIN = Look()


class ReportFormat(StrEnum):
    """Every format by its name on the command line; `render` is in the module of that name.

    It lies in `onnxlint_q.report`, or in its `services` where another service reads it. That module tells a comparison,
    too, unless `onnxlint_q.report.compare.<name>` has more to say of one.
    """

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    JSON_LINES = "json-lines"
    HTML = "html"
    MARKDOWN = "markdown"
    SARIF = "sarif"
    GITHUB = "github"
    GITLAB = "gitlab"
    JUNIT = "junit"

    @property
    def for_people(self) -> bool:
        """Whether people read it: where no model could be linted they have read why, and a program has not."""
        return self in {ReportFormat.FULL, ReportFormat.CONCISE, ReportFormat.HTML}

    @property
    def module(self) -> str:
        """Name of its module."""
        return self.value.replace("-", "_")

    @property
    def package(self) -> str:
        """The package of its module, from that of all formats on."""
        return ".services" if self in _SERVICES else ""


_SERVICES = frozenset(
    {ReportFormat.MARKDOWN, ReportFormat.SARIF, ReportFormat.GITHUB, ReportFormat.GITLAB, ReportFormat.JUNIT}
)


def render(run: Run, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline. The same run gives the same text."""
    return rendered(f"{__package__}{report_format.package}", run, report_format, look)


def rendered(package: str, found: object, report_format: ReportFormat, look: Look) -> str:
    """What the `render` of `package.<format>` makes of `found`; only those for people are told how it will look."""
    render_as = import_module(f"{package}.{report_format.module}").render
    looks = report_format in {ReportFormat.FULL, ReportFormat.HTML}
    text: str = render_as(found, look) if looks else render_as(found)
    return text
