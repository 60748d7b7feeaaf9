"""Quantised variants of the folded float model, simulated in float.

Weights are replaced by their values after quantisation and back. Activations pass through a QuantizeLinear and
DequantizeLinear pair of ONNX Runtime's own domain, which exists at every opset, so that the simulation does not
depend on what the file's opset could express.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np
import onnx
from onnx import helper

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import activation_qparams, weight_round_trip
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER, OBSERVERS, Observer
from onnxlint_q.analysis.placement import Placement
from onnxlint_q.analysis.schemes import FLOAT8_MAX, Number, Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.execute.executable import PREFIX, Array, Executable

_DOMAIN = "com.microsoft"
_CODE_TYPE = {Number.UINT8: np.uint8, Number.INT8: np.int8, Number.UINT16: np.uint16}
# Round, which float8 activations are simulated with, exists from here on.
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
    number: Number
    elem_type: int


def quantized_weight(measured: Measured, layer: LayerFacts, scheme: Scheme) -> Array:
    """A layer's folded weight after quantisation and back, in its stored layout."""
    weight = layer.folded.weight(measured.model)
    return weight_round_trip(weight, scheme, layer.folded.layer.channel_axis)


def with_weight(executable: Executable, measured: Measured, layers: Iterable[LayerFacts], scheme: Scheme) -> Executable:
    """The variant in which only the weights of `layers` are quantised."""
    changed = {}
    for layer in layers:
        name = executable.layer_weights[layer.output]
        dtype = executable.weights[name].dtype
        changed[name] = np.ascontiguousarray(quantized_weight(measured, layer, scheme), dtype)
    return executable.with_weights(changed)


def activation_scales(
    measured: Measured, scheme: Scheme, observations: Observations, observer: str = DEFAULT_OBSERVER
) -> tuple[ActivationScale, ...]:
    """Scales for every activation that the scheme quantises and that was observed, from the ranges of an observer."""
    chosen = OBSERVERS[observer]
    scales = (_scale_of(measured, place, scheme, observations, chosen) for place in measured.placements)
    return tuple(scale for scale in scales if scale is not None)


def _scale_of(
    measured: Measured, place: Placement, scheme: Scheme, observations: Observations, observer: Observer
) -> ActivationScale | None:
    extremes = _extremes(measured, place.like, observations, scheme, observer)
    if extremes is None:
        return None
    scale, zero_point = activation_qparams(*extremes, scheme.activations)
    known = measured.model.types.get(place.tensor)
    elem_type = known.elem_type if known and known.elem_type else int(onnx.TensorProto.FLOAT)
    return ActivationScale(place.tensor, scale, zero_point, scheme.activations, elem_type)


def _extremes(
    measured: Measured, tensor: str, observations: Observations, scheme: Scheme, observer: Observer
) -> tuple[float, float] | None:
    seen = observations.tensors.get(tensor)
    if seen is not None:
        return observer(seen, scheme.activations)
    constant = measured.model.constant(tensor)
    if constant is None or not constant.size or not np.isfinite(constant.astype(np.float64)).all():
        return None
    return float(constant.min()), float(constant.max())


def quantized(
    executable: Executable,
    measured: Measured,
    observations: Observations,
    scheme: Scheme,
    observer: str = DEFAULT_OBSERVER,
) -> Executable:
    """The variant in which everything is quantised that the scheme quantises."""
    weights = with_weight(executable, measured, measured.layers, scheme)
    return with_activations(weights, activation_scales(measured, scheme, observations, observer))


def can_simulate(opset: int, scheme: Scheme) -> bool:
    """Whether the activations of `scheme` can be simulated in a model of this opset."""
    return scheme.activations is not Number.FLOAT8 or opset >= _ROUND_OPSET


def with_activations(executable: Executable, scales: Sequence[ActivationScale]) -> Executable:
    """The variant in which these activations are quantised."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    add_domain(proto)
    produced = {name: node for node in proto.graph.node for name in node.output if name}
    made: list[onnx.NodeProto] = []
    for number, entry in enumerate(scales):
        producer = produced.get(entry.tensor)
        source, result = entry.tensor, f"{PREFIX}q{number}"
        if producer is not None:
            source, result = f"{PREFIX}f{number}", entry.tensor
            position = list(producer.output).index(entry.tensor)
            producer.output[position] = source
        else:
            _reroute(proto.graph, entry.tensor, result)
        made.extend(round_trip(proto.graph, number, entry, source, result))
    for name, value in scale_inputs(scales).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    proto.graph.node.extend(made)
    _sort(proto.graph)
    return replace(executable, proto=proto)


def scale_inputs(scales: Sequence[ActivationScale]) -> dict[str, Array]:
    """Values of the scales and zero points of `with_activations`, by the names of its initializers."""
    return {
        name: value
        for number, entry in enumerate(scales)
        for name, value in round_trip_constants(number, entry).items()
    }


def round_trip_constants(number: int, entry: ActivationScale) -> dict[str, Array]:
    """Values of the scale and the zero point that the nodes of `round_trip` read, by name."""
    found = {f"{PREFIX}scale{number}": np.asarray(entry.scale, helper.tensor_dtype_to_np_dtype(entry.elem_type))}
    if entry.number is not Number.FLOAT8:
        found[f"{PREFIX}zero{number}"] = np.asarray(entry.zero_point, _CODE_TYPE[entry.number])
    return found


def add_domain(proto: onnx.ModelProto) -> None:
    """Let `proto` use the pair of operators that `round_trip` makes."""
    if not any(entry.domain == _DOMAIN for entry in proto.opset_import):
        proto.opset_import.add(domain=_DOMAIN, version=1)


def round_trip(
    graph: onnx.GraphProto, number: int, entry: ActivationScale, source: str, result: str
) -> list[onnx.NodeProto]:
    """Nodes that quantise `source` and back; they read `round_trip_constants`, and `number` keeps several apart.

    Other constants that they need go to the initializers of `graph`.
    """
    scale, zero, codes = (f"{PREFIX}{what}{number}" for what in ("scale", "zero", "codes"))
    if entry.number is Number.FLOAT8:
        return _float8(graph, number, helper.tensor_dtype_to_np_dtype(entry.elem_type), source, scale, result)
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [codes], domain=_DOMAIN),
        helper.make_node("DequantizeLinear", [codes, scale, zero], [result], domain=_DOMAIN),
    ]


def _float8(
    graph: onnx.GraphProto, number: int, dtype: np.dtype[Any], source: str, scale: str, result: str
) -> list[onnx.NodeProto]:
    """Rounding to e4m3 in plain operators: QuantizeLinear has the type from opset 19 on only.

    A value `y` with `2^e <= |y| < 2^(e+1)` has the step `2^(e-3)`; below `2^-6` the step stays `2^-9`.
    """

    def name(what: str) -> str:
        return f"{PREFIX}f8_{what}{number}"

    constants = {"tiny": 2.0**-6, "two": 2.0, "log2": 1 / np.log(2), "bits": 3.0, "top": FLOAT8_MAX, "low": -FLOAT8_MAX}
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


def _reroute(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let every reader of an input or initializer read `new` instead, in subgraphs too."""
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _reroute(attribute.g, old, new)


def _sort(graph: onnx.GraphProto) -> None:
    """Put the nodes back into data order; ONNX Runtime asks for it."""
    nodes = list(graph.node)
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    flow = nx.DiGraph()
    flow.add_nodes_from(range(len(nodes)))
    flow.add_edges_from(
        (producer[name], index) for index, node in enumerate(nodes) for name in _reads(node) if name in producer
    )
    ordered = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in nx.topological_sort(flow)]
    del graph.node[:]
    graph.node.extend(ordered)


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _reads(inner)
            yield from (value.name for value in attribute.g.output)
