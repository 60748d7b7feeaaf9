"""What ONNX Runtime's `quant_pre_process` changes of a graph before it is quantised, as far as the result can tell.

`quantize_static` takes the nodes as they stand, so without that step

- a BatchNormalization is an operator of its own: the layer before it keeps its weight, and both results are rounded. So
  it stays with that step behind a Gemm, behind a bias that is a node, and in front of a layer;
- a weight that nodes compute (Identity, Transpose, Cast, …) is an activation to it and no weight, so it gets one scale
  for the tensor also where each channel should have its own;
- what a subgraph reads is not looked at. A Relu or Clip behind a layer is taken away, because the range of its result
  clips as it does, and what reads that result within an If then gets the values in front of the Relu. The step helps
  where it resolves the If. In front of a Loop, a Scan or an open If only an option of the quantiser keeps the Relu.

A MatMul and the Add of its bias become one Gemm in that step, which is rounded once instead of twice: 0.8 dB in a
network of 188 of them, up to 2 dB in small ones. That is no difference that is looked for.

Where the graph has none of these, both ways came to the same within 0.3 dB on all networks at hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.placement import is_taken_away
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.settled import Settled

KEEPS = "QDQKeepRemovableActivations"
"""The extra option of `quantize_static` that takes no activation away."""


def preparation(measured: Measured, scheme: Scheme) -> tuple[str, ...]:
    """What makes a difference to this model under a scheme, in sentences about the preparation; empty for most."""
    return tuple(_differences(measured, scheme))


def _differences(measured: Measured, scheme: Scheme) -> Iterator[str]:
    model = measured.model
    norms = [node for node in model.nodes_of("BatchNormalization") if node.graph == ROOT]
    if norms:
        late = ", once the weights are no longer inputs of the graph" * measured.folds_late
        alone = sum(not layer.folded.folds_in_preparation for layer in measured.layers)
        if alone < len(norms):
            yield f"up to {_count(len(norms) - alone, 'BatchNormalization')} fold in quant_pre_process{late}"
        if alone:
            yield f"{_count(alone, 'BatchNormalization')} fold in `onnxlint-q fix` and not in quant_pre_process"
    layers = [layer.folded.layer for layer in measured.layers if layer.folded.layer.node.graph == ROOT]
    computed = [layer for layer in layers if layer.is_product and model.constants.initializer(layer.weight) is None]
    if computed and scheme.per_channel:
        yield f"{_count(len(computed), 'weight')} made by other nodes become constants in quant_pre_process"
    for_good = set(removed_for_good(measured))
    inside = [node for node in _removed(model) if node not in for_good]
    if inside:
        yield f"quantize_static removes {_kinds(inside)} that a subgraph reads"
    if for_good:
        yield f"unless {KEEPS} is set, quantize_static removes {_kinds(for_good)} that a subgraph reads"


def removed_for_good(measured: Measured) -> tuple[Node, ...]:
    """What the quantiser takes away although a subgraph reads it that `quant_pre_process` does not resolve."""
    model = measured.model
    removed = list(_removed(model))
    if not removed:
        return ()
    settled = Settled(model, model.shape, {node.graph for node in model.nodes})
    for node in model.nodes:
        settled.add(node)
    holders = {graph: node for node in model.nodes for graph in node.subgraphs.values()}
    return tuple(node for node in removed if any(_stays(graph, holders, settled) for graph in _readers(model, node)))


def _removed(model: Model) -> Iterator[Node]:
    """Activations of the main graph that the quantiser takes away, and that a subgraph reads."""
    return (node for node in model.nodes if node.graph == ROOT and is_taken_away(node) and _readers(model, node))


def _readers(model: Model, node: Node) -> set[str]:
    """Subgraphs that read what a node makes."""
    return {reader.graph for key in node.outputs for reader in model.consumers(key)} - {ROOT}


def _stays(graph: str, holders: Mapping[str, Node], settled: Settled) -> bool:
    """Whether a subgraph is still one after what is constant has been resolved."""
    while graph != ROOT:
        holder = holders[graph]
        if holder.op_type != "If" or settled.branch(holder) is None:
            return True
        graph = holder.graph
    return False


def _kinds(nodes: Collection[Node]) -> str:
    """`2 Relu or Clip`."""
    return _count(len(nodes), " or ".join(sorted({node.op_type for node in nodes})))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
