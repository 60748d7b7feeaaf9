"""Weights that are inputs as well: taken off the list of inputs.

An initializer that is listed as an input is the default of that input (IR version 4 and later). A caller may replace
it, so ONNX Runtime takes it for no constant: it folds no BatchNormalization into such a weight. Exporters list weights
by habit. A quantised file holds their codes, so nobody can feed them there; only those that a layer or a
BatchNormalization reads as its parameters are taken off. What else is listed may be a setting that callers do feed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety


@dataclass(frozen=True, slots=True)
class Listed(Candidate):
    """A weight or a parameter that is listed as an input."""

    @property
    def change(self) -> str:
        """What it becomes."""
        return "it is a constant and no input any more"


def find(measured: Measured, _: Observations | None) -> Iterator[Listed | Refusal]:
    """Every initializer that is an input as well; refused where it is no parameter of a layer."""
    model = measured.model
    parameters = {
        model.constants.origin(key)
        for folded in measured.folded
        for layer in folded.layer.operands
        for key in (layer.weight, layer.bias, layer.scale, layer.zero_point)
        if key and model.is_constant(key)
    }
    norms = (key for node in model.nodes_of("BatchNormalization") for key in node.inputs[1:])
    parameters |= {model.constants.origin(key) for key in norms if model.is_constant(key)}
    for tensor in model.proto.graph.initializer:
        if tensor.name not in model.replaceable:
            continue
        if tensor.name in parameters:
            yield Listed(tensor.name)
        else:
            yield Refusal(tensor.name, "it is no parameter of a layer, and a caller may feed it")


def apply(model: Model, wanted: Sequence[Listed]) -> Model:
    """A copy of the model in which these are no inputs."""
    edit = Edit(model)
    edit.unlist(one.tensor for one in wanted)
    return edit.done()


REWRITE = Rewrite(
    name="listed-weights",
    what="weights taken off the list of inputs",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    moves_values=False,
)
