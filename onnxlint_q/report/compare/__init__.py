"""TELL what a comparison found: one file a format; a report reads `onnxlint_q.workflow.results` and nothing else."""

from __future__ import annotations

from onnxlint_q.report.formats import PLAIN, Look, ReportFormat, rendered
from onnxlint_q.workflow.results import Comparison


def render(comparison: Comparison, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline."""
    return rendered(__name__, comparison, report_format, look)
