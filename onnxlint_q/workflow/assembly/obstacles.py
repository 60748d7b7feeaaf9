"""What keeps ONNX Runtime from using the file that its own quantiser makes of a model as it is."""

from __future__ import annotations

from onnxlint_q.analysis.placement import clashing_copies, turned_again
from onnxlint_q.analysis.schemes import PER_CHANNEL_OPSET, Scheme
from onnxlint_q.judge.facts import Facts
from onnxlint_q.workflow.scheme_result import Obstacle

_DOES_NOT_LOAD = "does not load"
_FIX = "run `onnxlint-q fix` on the model first"


def obstacle_of(facts: Facts, scheme: Scheme) -> Obstacle | None:
    """The first thing that keeps the quantised file from being of use; None where nothing is known to."""
    if scheme.needs_opset(facts.model.opset):
        export = f"opset {PER_CHANNEL_OPSET}"
        return Obstacle(_DOES_NOT_LOAD, f"exported at {export}", f"export the model at {export}")
    if not facts.is_float:
        return None
    quantised = [folded for folded in facts.folded if scheme.quantises(folded.layer)]
    if scheme.is_dynamic and facts.quantises_half(scheme):
        # DynamicQuantizeLinear takes float32 alone, and the kernels behind it give nothing else.
        return Obstacle(_DOES_NOT_LOAD, "converted to float32", "convert the model to float32")
    if scheme.is_dynamic and any(turned_again(facts.model, (folded.layer for folded in quantised))):
        fault = "fails in every run" if scheme.per_channel else "computes something else"
        return Obstacle(fault, "each LSTM has weights of its own", _FIX)
    if scheme.is_calibrated and clashing_copies(facts.model, quantised):
        return Obstacle("mixes up two tensors", "each layer has a bias of its own", _FIX)
    return None
