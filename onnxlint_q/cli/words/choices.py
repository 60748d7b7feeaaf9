"""What can be chosen, listed from where it is defined; a help text names it in braces, and only help looks it up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer.core

_LISTED = re.compile(r"[:,;]? *(separated by commas: )?\{\w+\}.*", re.DOTALL)
"""The part of a help text from the first choice on."""


class Command(typer.core.TyperCommand):
    """A command whose help says what can be chosen."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in what the texts leave open, then write them."""
        fill_in(self.params)
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Names of options, with their help as far as it names no choices; completing a value offers those."""
        found = super().shell_complete(ctx, incomplete)
        for item in found:
            item.help = _LISTED.sub("", item.help or "")
        return found


def fill_in(parameters: Iterable[Any]) -> None:
    """Put the choices in place of their names in braces."""
    words = dict(_choices())
    for parameter in parameters:
        if parameter.help is not None:
            parameter.help = parameter.help.format_map(words)


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _choices() -> Iterator[tuple[str, str]]:
    from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER, OBSERVERS
    from onnxlint_q.analysis.targets import TARGETS
    from onnxlint_q.cli.words.options import CONFIGURED
    from onnxlint_q.execute.data.preprocess import CHANNEL_ORDERS, DEFAULT_PRESET, LAYOUTS, PRESETS
    from onnxlint_q.execute.data.sources import DATA
    from onnxlint_q.execute.limits import DEFAULT_SAMPLES
    from onnxlint_q.finding import Severity
    from onnxlint_q.judge.config import FAILING_VERDICTS, SCHEME_NAMES, SEVERITIES
    from onnxlint_q.judge.verdict import Verdict
    from onnxlint_q.report import ReportFormat, diff, fix, inspect, quantize
    from onnxlint_q.workflow.reading.columns import COLUMNS

    yield "data", DATA
    yield "configured_data", f"{DATA}; `{CONFIGURED}` for what the configuration names"
    yield "samples", str(DEFAULT_SAMPLES)
    yield "observers", f"{one_of(OBSERVERS)}; {DEFAULT_OBSERVER} by default"
    yield "presets", f"{one_of(PRESETS)}; {DEFAULT_PRESET} by default"
    yield "channel_orders", one_of(CHANNEL_ORDERS)
    yield "layouts", one_of(LAYOUTS)
    yield "schemes", ", ".join(SCHEME_NAMES)
    yield "targets", ", ".join(TARGETS)
    yield "severities", f"{one_of(SEVERITIES)}; {Severity.WARNING} by default"
    yield "verdicts", f"{one_of(FAILING_VERDICTS)}; {Verdict.BREAKS} by default"
    yield "formats", one_of(ReportFormat)
    yield "diff_formats", one_of(diff.FORMATS)
    yield "fix_formats", one_of(fix.FORMATS)
    yield "quantize_formats", one_of(quantize.FORMATS)
    yield "inspect_formats", one_of(inspect.FORMATS)
    yield "columns", one_of(COLUMNS)
