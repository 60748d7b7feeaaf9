"""Activations rounded in the graph: pairs of QuantizeLinear and DequantizeLinear, or what comes to the same.

The pairs are of ONNX Runtime's own domain, which exists at every opset, so that the simulation does not depend on what
the file's opset could express. Where each run takes its own scale, a DynamicQuantizeLinear computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from onnxlint_q.analysis.number_formats import NumberFormat
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.executable import PREFIX, Array, Executable
from onnxlint_q.graph.names import names_read
from onnxlint_q.graph.operators import MICROSOFT

# Round, which float8 activations are simulated with, and DynamicQuantizeLinear exist from here on.
_ROUND_OPSET = 11


@dataclass(frozen=True, slots=True)
class ActivationScale:
    """Where an activation is quantised, and with what.

    Attributes:
        elem_type: TensorProto type of the tensor itself.
        number: format of the codes.
    """

    tensor: str
    scale: np.float32
    zero_point: int
    number: NumberFormat
    elem_type: int


@dataclass(frozen=True, slots=True)
class DynamicScale:
    """What is quantised to 8 bits without sign in front of its readers, with a scale for the values of each run.

    Attributes:
        readers: the first results of the nodes that read the codes; all others read the float tensor.
        elem_type: TensorProto type of the tensor itself.
    """

    tensor: str
    readers: frozenset[str]
    elem_type: int


Rounding = ActivationScale | DynamicScale


def can_round(opset: int, scheme: Scheme) -> bool:
    """Whether the activations of a scheme can be simulated in a model of this opset."""
    number = scheme.activations
    return number is not None and (opset >= _ROUND_OPSET or not (number.is_float or scheme.is_dynamic))


def with_activations(executable: Executable, scales: Sequence[Rounding]) -> Executable:
    """The variant in which these activations are quantised."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    add_domain(proto)
    produced = {name: node for node in proto.graph.node for name in node.output if name}
    made: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    for number, entry in enumerate(scales):
        producer = produced.get(entry.tensor)
        if isinstance(entry, DynamicScale):
            made.extend(dynamic_nodes(number, entry, entry.tensor, f"{PREFIX}q{number}"))
            for node in proto.graph.node:
                if entry.readers.intersection(node.output):
                    reread(node, entry.tensor, f"{PREFIX}q{number}")
            continue
        source, result = entry.tensor, f"{PREFIX}q{number}"
        if producer is not None:
            source, result = f"{PREFIX}f{number}", entry.tensor
            position = list(producer.output).index(entry.tensor)
            producer.output[position] = source
        else:
            renamed[entry.tensor] = result
        made.extend(rounding_nodes(proto.graph, number, entry, source, result))
    _reroute(proto.graph, renamed)
    for name, value in scale_inputs(scales).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    proto.graph.node.extend(made)
    _sort(proto.graph)
    return replace(executable, proto=proto)


def unrounded(scales: Sequence[Rounding]) -> dict[str, str]:
    """In the graph of `with_activations` the names of computed tensors as they are in front of their rounding."""
    return {
        entry.tensor: f"{PREFIX}f{number}" for number, entry in enumerate(scales) if isinstance(entry, ActivationScale)
    }


def scale_inputs(scales: Sequence[Rounding]) -> dict[str, Array]:
    """Values of the scales and zero points of `with_activations`, by the names of its initializers."""
    return {
        name: value
        for number, entry in enumerate(scales)
        if isinstance(entry, ActivationScale)
        for name, value in rounding_constants(number, entry).items()
    }


def rounding_constants(number: int, entry: ActivationScale) -> dict[str, Array]:
    """Values of the scale and the zero point that the nodes of `rounding_nodes` read, by name."""
    found = {f"{PREFIX}scale{number}": np.asarray(entry.scale, helper.tensor_dtype_to_np_dtype(entry.elem_type))}
    if not entry.number.is_float:
        found[f"{PREFIX}zero{number}"] = np.asarray(entry.zero_point, entry.number.dtype)
    return found


def add_domain(proto: onnx.ModelProto) -> None:
    """Let `proto` use the pair of operators that `rounding_nodes` makes."""
    if not any(entry.domain == MICROSOFT for entry in proto.opset_import):
        proto.opset_import.add(domain=MICROSOFT, version=1)


def rounding_nodes(
    graph: onnx.GraphProto, number: int, entry: ActivationScale, source: str, result: str
) -> list[onnx.NodeProto]:
    """Nodes that quantise `source` and back; they read `rounding_constants`, and `number` keeps several apart.

    Other constants that they need go to the initializers of `graph`.
    """
    scale, zero, codes = (f"{PREFIX}{what}{number}" for what in ("scale", "zero", "codes"))
    if entry.number.is_float:
        return _rounded_to_float(graph, number, entry, source, scale, result)
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [codes], domain=MICROSOFT),
        helper.make_node("DequantizeLinear", [codes, scale, zero], [result], domain=MICROSOFT),
    ]


def dynamic_nodes(number: int, entry: DynamicScale, source: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that quantise `source` and back with the scale of its own values; `number` keeps several apart."""
    single = entry.elem_type == onnx.TensorProto.FLOAT
    wide, rounded = (name if single else f"{name}_wide" for name in (source, result))
    pair = [f"{PREFIX}{what}{number}" for what in ("codes", "scale", "zero")]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", [wide], pair),
        helper.make_node("DequantizeLinear", pair, [rounded], domain=MICROSOFT),
    ]
    if single:
        return nodes
    # The operator knows single precision only.
    return [
        helper.make_node("Cast", [source], [wide], to=onnx.TensorProto.FLOAT),
        *nodes,
        helper.make_node("Cast", [rounded], [result], to=entry.elem_type),
    ]


def reread(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node read `new` wherever it reads `old`."""
    node.input[:] = [new if name == old else name for name in node.input]


def _rounded_to_float(
    graph: onnx.GraphProto, number: int, entry: ActivationScale, source: str, scale: str, result: str
) -> list[onnx.NodeProto]:
    """Rounding to a float of few bits in plain operators: QuantizeLinear has such types from opset 19 on only.

    With m bits of mantissa a value `y` with `2^e <= |y| < 2^(e+1)` has the step `2^(e-m)`; below the smallest normal
    number the step stays what it is there.
    """

    def name(what: str) -> str:
        return f"{PREFIX}f8_{what}{number}"

    held, dtype = entry.number, helper.tensor_dtype_to_np_dtype(entry.elem_type)
    constants = {
        "tiny": held.smallest_normal,
        "two": 2.0,
        "log2": 1 / np.log(2),
        "bits": float(held.mantissa_bits),
        "top": held.largest,
        "low": held.lowest,
    }
    for what, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name(what)))
    steps = (
        ("Div", (source, scale), name("y")),
        ("Max", (name("y"), name("low")), name("raised")),
        ("Min", (name("raised"), name("top")), name("clipped")),
        ("Abs", (name("clipped"),), name("abs")),
        ("Max", (name("abs"), name("tiny")), name("normal")),
        ("Log", (name("normal"),), name("ln")),
        ("Mul", (name("ln"), name("log2")), name("exponent")),
        ("Floor", (name("exponent"),), name("binade")),
        ("Sub", (name("binade"), name("bits")), name("last")),
        ("Pow", (name("two"), name("last")), name("step")),
        ("Div", (name("clipped"), name("step")), name("ratio")),
        ("Round", (name("ratio"),), name("whole")),
        ("Mul", (name("whole"), name("step")), name("rounded")),
        ("Mul", (name("rounded"), scale), result),
    )
    return [helper.make_node(op_type, inputs, [output]) for op_type, inputs, output in steps]


def _reroute(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Let every reader of an input or initializer read the new name of it instead, in subgraphs too."""
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in renamed:
                node.input[position] = renamed[name]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _reroute(attribute.g, renamed)


def _sort(graph: onnx.GraphProto) -> None:
    """Put the nodes back into data order; ONNX Runtime asks for it."""
    import networkx as nx  # noqa: PLC0415 - only who asks for its algorithms waits for it

    nodes = list(graph.node)
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    flow = nx.DiGraph()
    flow.add_nodes_from(range(len(nodes)))
    flow.add_edges_from(
        (producer[name], index) for index, node in enumerate(nodes) for name in names_read(node) if name in producer
    )
    ordered = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in nx.topological_sort(flow)]
    del graph.node[:]
    graph.node.extend(ordered)
