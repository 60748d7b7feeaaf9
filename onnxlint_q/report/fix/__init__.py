"""TELL what `fix` did: one file a format; a report reads the values of `onnxlint_q.workflow` and nothing else."""

from __future__ import annotations

from onnxlint_q.report.formats import PLAIN, Look, ReportFormat, rendered
from onnxlint_q.workflow.mending.fixed import Fixed

FORMATS = (ReportFormat.FULL, ReportFormat.JSON, ReportFormat.HTML)
"""Those that there are; what was fixed is no finding for the others."""


def render(fixed: Fixed, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline."""
    return rendered(__name__, fixed, report_format, look)
