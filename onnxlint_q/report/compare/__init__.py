"""TELL what a comparison found: one file a format that says more of two files than of the quantised one.

A report reads `onnxlint_q.workflow.results` and nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec

from onnxlint_q.report import formats
from onnxlint_q.report.formats import PLAIN, Look, ReportFormat, rendered
from onnxlint_q.workflow.comparison import (
    Comparison,
)


def render(comparison: Comparison, report_format: ReportFormat, look: Look = PLAIN) -> str:
    """The whole report as text that ends in a newline.

    A format without a file here tells the quantised file, its verdict and findings, as it tells any linted model.
    """
    if find_spec(f"{__name__}.{report_format.module}") is None:
        return formats.render(comparison.as_run, report_format, look)
    return rendered(__name__, comparison, report_format, look)
