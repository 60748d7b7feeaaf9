"""What ONNX Runtime's `quant_pre_process` changes of a graph before it is quantised, as far as the result can tell.

`quantize_static` takes the nodes as they stand, so without that step

- a BatchNormalization is an operator of its own: the layer before it keeps its weight, and both results are rounded;
- a weight that nodes compute (Identity, Transpose, Cast, …) is an activation to it and no weight, so it gets one scale
  for the tensor also where each channel should have its own;
- what a subgraph reads is not looked at. A Relu or Clip behind a layer is taken away, because the range of its result
  clips as it does, and what reads that result within an If then gets the values in front of the Relu.

Where the graph has none of these, both ways came to the same within 0.3 dB on all networks at hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.placement import is_taken_away
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.graph.names import ROOT


def preparation(measured: Measured, scheme: Scheme) -> tuple[str, ...]:
    """What makes a difference to this model under a scheme, in sentences about the preparation; empty for most."""
    return tuple(_differences(measured, scheme))


def _differences(measured: Measured, scheme: Scheme) -> Iterator[str]:
    model = measured.model
    norms = [node for node in model.nodes_of("BatchNormalization") if node.graph == ROOT]
    if norms:
        late = ", once the weights are no longer inputs of the graph" * measured.folds_late
        yield f"up to {_count(len(norms), 'BatchNormalization')} fold in quant_pre_process{late}"
    layers = [layer.folded.layer for layer in measured.layers if layer.folded.layer.node.graph == ROOT]
    computed = [layer for layer in layers if layer.is_product and model.constants.initializer(layer.weight) is None]
    if computed and scheme.per_channel:
        yield f"{_count(len(computed), 'weight')} made by other nodes become constants in quant_pre_process"
    inside = [
        node
        for node in model.nodes
        if node.graph == ROOT
        and is_taken_away(node)
        and any(reader.graph != ROOT for key in node.outputs for reader in model.consumers(key))
    ]
    if inside:
        kinds = " or ".join(sorted({node.op_type for node in inside}))
        yield f"quantize_static removes {_count(len(inside), kinds)} that a subgraph reads"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
