"""The network from input to output: one chart of all that is known along its depth."""

from onnxlint_q.report.html.depth.chart import Depth, depth_chart
from onnxlint_q.report.html.depth.spots import Flag, Spot, Spots, find_spots

__all__ = ["Depth", "Flag", "Spot", "Spots", "depth_chart", "find_spots"]
