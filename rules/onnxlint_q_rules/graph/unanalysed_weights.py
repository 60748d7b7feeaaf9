"""Weights that the analysis of layers does not cover.

A layer is a Conv, ConvTranspose, Gemm or MatMul with a constant weight, or an LSTM, GRU or RNN. Fused attention and
Einsum hold weights too, and a layer's weight may be computed in the graph. No rule looks at those, and silence must
not read as "nothing is wrong".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q import (
    FLOATS,
    Confidence,
    Example,
    Facts,
    Finding,
    Model,
    Node,
    Product,
    Rule,
    Severity,
    Silence,
    Trait,
    option,
    whole_model,
)


def _lstm(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    return {
        "w": random.normal(size=(1, 64, 8)).astype(np.float32),
        "r": random.normal(size=(1, 64, 16)).astype(np.float32),
    }


def _table(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    return {"w": random.normal(size=(8, 64)).astype(np.float32)}


@dataclass(frozen=True)
class UnanalysedWeights(Rule):
    """Operators hold weights that no rule looks at.

    ## What it does
    Lists, once for each type, operators with a large constant float operand that is not the weight of a layer:
    attention, Einsum, operators of other domains. Lists layers whose weight is computed in the graph, too.

    ## Why it breaks INT8
    It need not. But no forecast and no other rule looks at these weights. ONNX Runtime's static quantiser leaves most
    of them in float.

    ## What to do
    Measure with `--calibrate`, or with the metric of your task. If a weight is computed from constants, fold it: export
    with constant folding, or run a graph optimiser first.

    ## Sources
    onnxruntime 1.31.1, quantization/registry.py (what the static quantiser handles).
    """

    code: ClassVar[str] = "QG005"
    name: ClassVar[str] = "unanalysed-weights"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("stored-weights",)

    min_values: int = option(
        256, doc="fewest constant values that count as the node's weights", source="a 16 x 16 matrix"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 8] x) => (float[N, 64] y) {
  [dense] y = MatMul(x, w)
}
""",
            weights=_table,
            why="A MatMul with a constant weight is a layer.",
        ),
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
recurrent (float[5, 1, 8] x) => (float[5, 1, 1, 16] y) {
  [lstm] y = LSTM <hidden_size = 16> (x, w, r)
}
""",
            weights=_lstm,
            why="An LSTM whose weights are constant is a layer.",
        ),
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[N, 8, 16] query, float[N, 16, 8] key) => (float[N, 8, 8] y) {
  [scores] y = MatMul(query, key)
}
""",
            why="Neither operand is a weight.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
product (float[N, 8] x) => (float[N, 64] y) {
  [einsum] y = Einsum <equation = "ni,ij->nj"> (x, w)
}
""",
            flags=("einsum",),
            weights=_table,
            why="The weights of an Einsum are not a layer's.",
        ),
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
computed (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float norm = {0.5}>
{
  [scale] scaled = Mul(w, norm)
  [conv] y = Conv(x, scaled)
}
""",
            flags=("conv",),
            why="The weight of the convolution is computed by a Mul that was not folded.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for each type of operator and reason, at the first such node."""
        model = facts.model
        layers = {layer.node for layer in facts.layers} | {pair.node for pair in facts.quantized}
        driven = _depends_on_input(model)
        held: dict[str, list[tuple[Node, int]]] = {}
        computed: dict[str, list[Node]] = {}
        for node in model.nodes:
            if node in layers or _is_harmless(node):
                continue
            if _weight_is_computed(model, node, driven):
                computed.setdefault(node.qualified_type, []).append(node)
            elif node in driven and (size := self._held(model, node)):
                held.setdefault(node.qualified_type, []).append((node, size))
        for kind, found in held.items():
            values = sum(size for _, size in found)
            yield self.finding(
                model.locate(found[0][0]),
                f"{_count(len(found), kind)} {values} weight values that no rule looks at.",
                remedy="Measure with --calibrate, or with the metric of your task.",
                metrics={"nodes": len(found), "weight_values": values},
            )
        for kind, nodes in computed.items():
            yield self.finding(
                model.locate(nodes[0]),
                f"{_count(len(nodes), kind)} a weight that is no constant: quantisers skip it or give it one scale, "
                "and no rule looks at it.",
                remedy="Export with constant folding, or run a graph optimiser first. If the weight depends on the "
                "input, measure with --calibrate.",
                metrics={"nodes": len(nodes)},
            )
        if not held and not computed:
            least = f"no node outside its {len(facts.layers)} layers holds {self.min_values} constant values"
            yield Silence(whole_model(facts), f"{least}, and no weight is computed")

    def _held(self, model: Model, node: Node) -> int:
        """Values of the constant matrices that the node reads, 0 if they are few."""
        size = sum(_matrix_size(model, key) for key in node.inputs)
        return size if size >= self.min_values else 0


def _is_harmless(node: Node) -> bool:
    """Whether large constants of the operator are no weights in need of scales of their own.

    They are tables, masks and positions, or pass through on their way to a layer.
    """
    return node.operator.known and not node.operator.weight_inputs


def _depends_on_input(model: Model) -> frozenset[Node]:
    """Nodes that data from an input of the model reaches."""
    waiting: list[Node | str] = [value.name for value in model.inputs if value.name in model.flow]
    reached: set[Node | str] = set(waiting)
    while waiting:
        for vertex in model.flow[waiting.pop()]:
            if vertex not in reached:
                reached.add(vertex)
                waiting.append(vertex)
    return frozenset(vertex for vertex in reached if isinstance(vertex, Node))


def _weight_is_computed(model: Model, node: Node, driven: frozenset[Node]) -> bool:
    """Whether a weight is no constant, or an operand of a matrix product is made of constants only."""
    operator = node.operator
    if operator.layer is not None and operator.layer.product in {Product.CONVOLUTION, Product.TRANSPOSED}:
        return operator.layer.is_float and not model.is_constant(node.input(operator.layer.weight))
    if operator.has(Trait.RECURRENT):
        return not all(model.is_constant(node.input(slot)) for slot in operator.weight_inputs)
    if operator.layer is None or not operator.layer.is_float or node not in driven:
        return False
    makers = [model.producer(key) for key in node.inputs[:2] if not model.is_constant(key)]
    return any(maker is not None and maker not in driven for maker in makers)


def _matrix_size(model: Model, key: str) -> int:
    """Number of values of a constant float tensor of rank 2 or more; reads none of them."""
    if key not in model.constants:
        return 0
    origin = model.constants.origin(key)
    producer = model.producer(origin)
    tensor = model.constants.initializer(origin) or (producer.attributes.get("value") if producer else None)
    if not isinstance(tensor, onnx.TensorProto) or tensor.data_type not in FLOATS:
        return 0
    return math.prod(tensor.dims) if len(tensor.dims) > 1 else 0


def _count(number: int, kind: str) -> str:
    return f"1 {kind} node has" if number == 1 else f"{number} {kind} nodes have"
