"""TELL what `quantize` made: one file a format; a report reads the values of `onnxlint_q.workflow` and nothing else."""

from __future__ import annotations

from onnxlint_q.report.formats import PLAIN, Look, ReportFormat, rendered
from onnxlint_q.workflow.mending.quantized import Quantized

FORMATS = (ReportFormat.FULL, ReportFormat.JSON, ReportFormat.HTML)
"""Those that there are; what was quantised is no finding for the others."""


def render(quantized: Quantized, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline."""
    return rendered(__name__, quantized, report_format, look)
