"""An operator of a quantised model with inputs of both kinds, codes and real values.

An integer kernel reads codes only. ONNX Runtime puts one in the place of an operator if each data input and the weight
come from a DequantizeLinear and the result goes to a QuantizeLinear; TensorRT and the NPUs ask for the same. Otherwise
the operator computes in float: it is as slow as before, and the error of rounding its other inputs stays.

Two kinds differ from an operator that was left in float on purpose, weight and result included:

- a layer with an int8 weight, whose input has no scale;
- a sum or a join whose result and one input have a scale, while another input has none.

Constants are no branches: quantisers give them a scale or leave them, and a bias has none before it is folded.

Sources: onnxruntime 1.32.0, core/optimizer/qdq_transformer/selectors_actions/qdq_selectors.cc
(NodeGroupSelector::CheckQDQNodes); TensorRT issues 1992 and 3270; onnxruntime issue 12487.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnx import TensorProto

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Model,
    Node,
    Rule,
    Severity,
    Silence,
    Trait,
)
from onnxlint_q_rules.qdq.pairs import Pairs, dequantizer

_EIGHT_BITS = {TensorProto.INT8, TensorProto.UINT8}


def _layers(read: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
layers (float[N, 4] x) => (float[N, 4] y)
<float s = {{0.02}}, uint8 z = {{128}}, float sw = {{0.01}}, int8 zw = {{0}},
 int8[4, 4] w = {{90, -3, 7, 1, -20, 64, 5, 9, 11, 2, -88, 4, 6, -5, 3, 70}}> {{
  qx = QuantizeLinear(x, s, z)
  dx = DequantizeLinear(qx, s, z)
  dw = DequantizeLinear(w, sw, zw)
  [first] a = Gemm(dx, dw)
  qa = QuantizeLinear(a, s, z)
  da = DequantizeLinear(qa, s, z)
  [second] b = Gemm({read}, dw)
  qb = QuantizeLinear(b, s, z)
  y = DequantizeLinear(qb, s, z)
}}
"""


_ROUNDED = """qc = QuantizeLinear(c, s, z)
  y = DequantizeLinear(qc, s, z)"""


def _branches(branch: str, result: str = _ROUNDED) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
branches (float[N, 4] x) => (float[N, 4] y)
<float s = {{0.02}}, uint8 z = {{128}}> {{
  qx = QuantizeLinear(x, s, z)
  dx = DequantizeLinear(qx, s, z)
  a = Tanh(dx)
  qa = QuantizeLinear(a, s, z)
  da = DequantizeLinear(qa, s, z)
  [sum] c = Add(dx, {branch})
  {result}
}}
"""


@dataclass(frozen=True)
class HalfQuantisedOperator(Rule):
    """One input of an operator has a scale and another has none, so it computes in float.

    ## What it does
    Looks at quantised models. Finds layers with an int8 weight and an input without a scale. Finds sums and joins with
    a scale behind them where some inputs have a scale and others have none.

    ## Why it breaks INT8
    An integer kernel reads codes only. With one float input the operator runs in float, as slow as before, and the
    error of rounding the others stays.

    ## What to do
    Give the input a scale as well, or leave the whole operator in float: its weight and its result too.

    ## Sources
    onnxruntime 1.32.0, qdq_selectors.cc (each input and the result need a pair); TensorRT issues 1992 and 3270;
    onnxruntime issue 12487.
    """

    code: ClassVar[str] = "QP016"
    name: ClassVar[str] = "half-quantised-operator"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_layers("da"), why="Both layers read codes."),
        Example(_branches("da"), why="Both branches have a scale."),
        Example(_branches("a", "y = Identity(c)"), why="The sum has no scale either: it was left in float."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_layers("a"), flags=("second",), why="Its weight is int8, its input is not."),
        Example(_branches("a"), flags=("sum",), why="One branch has a scale, the other none."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each layer with a rounded weight, and each sum and join with a rounded result."""
        model, pairs = facts.model, Pairs(facts)
        of_bytes = {pair.node for pair in facts.quantized if pair.elem_type in _EIGHT_BITS}
        for layer in facts.layers if pairs.activations else ():
            if layer.folded.layer.is_product and dequantizer(model, layer.folded.layer.weight) in of_bytes:
                yield self._judge(model, pairs, layer.node, [layer.folded.layer.input], "its weight is int8")
        for node in model.nodes if pairs.activations else ():
            if not node.operator.has(Trait.ADDS | Trait.JOINS):
                continue
            branches = [name for name in node.operator.data_of(node.inputs) if not model.is_constant(name)]
            if len(branches) < 2 or not any(map(pairs.source, branches)):
                continue
            if pairs.destination(node.output) is None:
                yield Silence(model.locate(node), "its result has no scale either")
            else:
                yield self._judge(model, pairs, node, branches, "its result and another input have a scale")

    def _judge(self, model: Model, pairs: Pairs, node: Node, inputs: list[str], other: str) -> Finding | Silence:
        real = [name for name in inputs if pairs.source(name) is None]
        if not real:
            return Silence(model.locate(node), "all that it reads has scales")
        return self.finding(
            model.locate(node),
            f"{node.op_type} computes in float: {real[0]!r} has no scale, though {other}",
            metrics={"without_scale": real[0], "inputs_without_scale": len(real)},
            remedy=f"Give {real[0]!r} a scale too, or leave the whole operator in float.",
        )
