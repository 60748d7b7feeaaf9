"""TELL what `inspect` read: one file a format; a report reads the values of `onnxlint_q.workflow` and nothing else."""

from __future__ import annotations

from onnxlint_q.report.formats import PLAIN, Look, ReportFormat, rendered
from onnxlint_q.workflow.reading.inspection import (
    Inspection,
)

FORMATS = (ReportFormat.FULL, ReportFormat.JSON, ReportFormat.HTML)
"""Those that there are; an inspection has no findings for the others."""


def render(inspection: Inspection, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline."""
    return rendered(__name__, inspection, report_format, look)
