"""TELL what a comparison found: one file a format; a report reads `onnxlint_q.comparison` and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from onnxlint_q.comparison import Comparison
from onnxlint_q.report.formats import PLAIN, Look, ReportFormat


def render(comparison: Comparison, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline."""
    module = import_module(f"{__name__}.{report_format.value}")
    if report_format is ReportFormat.FULL:
        render_full: Callable[[Comparison, int, bool], str] = module.render
        return render_full(comparison, look.width, look.colour)
    renderer: Callable[[Comparison], str] = module.render
    return renderer(comparison)
