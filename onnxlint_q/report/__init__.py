"""TELL: one file a format; a report reads `onnxlint_q.workflow.results` and nothing else.

Importing this package imports neither rich nor jinja2; a format is loaded when it is used.
"""

from onnxlint_q.report.formats import ReportFormat, render
from onnxlint_q.report.write import check_writable, terminal_look, write

__all__ = ["ReportFormat", "check_writable", "render", "terminal_look", "write"]
