"""TELL what changed between two releases: one file a format; it reads the values of `onnxlint_q.workflow` only."""

from __future__ import annotations

from onnxlint_q.report.formats import PLAIN, Look, ReportFormat, rendered
from onnxlint_q.workflow.diff import Diff

FORMATS = (ReportFormat.FULL, ReportFormat.JSON, ReportFormat.HTML)
"""Those that there are."""


def render(changes: Diff, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline."""
    return rendered(__name__, changes, report_format, look)
