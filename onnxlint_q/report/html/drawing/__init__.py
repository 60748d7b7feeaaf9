"""Pictures of a finding as coordinates, which a template draws."""

from onnxlint_q.report.html.drawing.graph import Drawn, drawn
from onnxlint_q.report.html.drawing.plots import Plot, plots

__all__ = ["Drawn", "Plot", "drawn", "plots"]
