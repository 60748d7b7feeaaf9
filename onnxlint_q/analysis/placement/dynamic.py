"""Which activations get a scale when a float model is quantised dynamically.

Follows onnxruntime.quantization.quantize_dynamic (1.32.0: onnx_quantizer.py, registry.py and operators/ of
onnxruntime/quantization) with its defaults. In the order of the file:

- a layer with an integer operator quantises what it reads, with a scale for the values of each run; whoever else reads
  the tensor gets it in float;
- a Gather quantises the table that it reads, where that is stored in the file, once for all: 8 bits without sign from
  its smallest to its largest value. What it gives are values of the table, and a layer reads their codes as they are;
- a Transpose reads the codes of what a layer before it has quantised, and gives them on.

Results and biases stay in float, and subgraphs are not quantised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import onnx

from onnxlint_q.analysis.placement.place import Placement
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.names import ROOT

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def dynamic_tensors(model: Model, layers: Iterable[Layer], excluded: Collection[str] = ()) -> tuple[Placement, ...]:
    """Every tensor that is quantised, in the order of the file; `asked` are the nodes that read its codes.

    Args:
        model: the graph.
        layers: those that have integer operators.
        excluded: names of nodes that stay in float.
    """
    kept = {name for name in excluded if name}
    reads = {layer.node: layer.input for layer in layers if layer.node.name not in kept}
    like: dict[str, str] = {}
    readers: dict[str, list[Node]] = {}
    for node, tensor in _reads(model, reads, kept):
        source = like.setdefault(tensor, tensor)
        readers.setdefault(tensor, []).append(node)
        if node not in reads:
            like[node.output] = source
    return tuple(
        Placement(tensor, source, model.is_constant(tensor), tensor != source, tuple(readers.get(tensor, ())))
        for tensor, source in like.items()
    )


def _reads(model: Model, layers: Mapping[Node, str], kept: Collection[str]) -> Iterator[tuple[Node, str]]:
    """Nodes that read codes, and which tensor's."""
    coded: set[str] = set()
    for node in _as_stored(model):
        source = node.input(0)
        if node in layers:
            coded.add(layers[node])
            yield node, layers[node]
        elif not node.is_standard or model.is_constant(node.output) or node.name in kept:
            continue
        elif (node.op_type == "Gather" and _is_table(model, source)) or (
            node.op_type == "Transpose" and source in coded
        ):
            coded |= {source, node.output}
            yield node, source


def _as_stored(model: Model) -> list[Node]:
    """The nodes of the main graph in the order of the file, which decides who finds codes of what."""
    places = {name: place for place, node in enumerate(model.proto.graph.node) for name in node.output}
    nodes = (node for node in model.nodes if node.graph == ROOT and node.output)
    return sorted(nodes, key=lambda node: places.get(node.output, len(places)))


def _is_table(model: Model, key: str) -> bool:
    stored = model.constants.initializer(key)
    return stored is not None and stored.data_type in _FLOATS
