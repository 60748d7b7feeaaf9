"""Where a finding about a layer or about the whole file stands."""

from __future__ import annotations

from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Location
from onnxlint_q.judge.facts import Facts


def locate(facts: Facts, layer: LayerFacts) -> Location:
    """The layer's operator, with the tensor that is the layer's key."""
    node = layer.node
    return facts.model.locate(node, layer.output)


def whole_model(facts: Facts) -> Location:
    """Where a finding about the file stands: at its first input."""
    return Location(output=facts.model.inputs[0].name if facts.model.inputs else "")
