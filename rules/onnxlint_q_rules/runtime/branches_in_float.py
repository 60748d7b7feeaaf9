"""Tensors of int8 codes that several operators read, on x86.

Integer kernels of ONNX Runtime on x86 read uint8 codes. When a quantise-dequantise file of int8 activations is loaded,
each pair with one reader becomes one of uint8, and a pair with several stays as it is. A kernel takes codes of one type
only, so each operator beside such a pair, whose other codes are uint8, is computed in float:

    in float  <=>  the codes that it reads and writes are of both types after the change.

In 16 files, 8 of them made by quantize_static, 343 operators are named, and all 343 are in float in the model that the
runtime writes after optimisation; 37 more are, for other reasons. Values are the same either way; time is lost: on one
core of a Zen 4 five networks took 1.6 to 3.3 times as long as with activations of uint8, four of them longer than in
float (medians of 30 runs in turn).

Sources: onnxruntime 1.32.0, core/optimizer/qdq_transformer/qdq_s8_to_u8.cc (the pair's QuantizeLinear has one reader)
and selectors_actions/qdq_selectors.cc (types of input and output have to be equal); the optimised models.
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
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    Trait,
    whole_model,
)
from onnxlint_q_rules.qdq.pairs import Pairs

# Operators of a layer or between layers that have an integer kernel; a layer's second input is its weight.
_LAYERS = {"Conv", "Gemm", "MatMul"}
_OTHERS = {"Add", "Mul", "Concat"}
_CPU = "ort-cpu"


def _network(codes: str, zero: int, last: str = "Add(d, dc)") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
branches (float[N, 2] x) => (float[N, 2] y)
<float s = {{0.02}}, {codes} z = {{{zero}}}, float sw = {{0.01}}, int8 zw = {{0}}, int8[2, 2] w = {{90, -3, 7, 64}}> {{
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  dw = DequantizeLinear(w, sw, zw)
  [product] c = Gemm(d, dw)
  qc = QuantizeLinear(c, s, z)
  dc = DequantizeLinear(qc, s, z)
  [last] e = {last}
  qe = QuantizeLinear(e, s, z)
  y = DequantizeLinear(qe, s, z)
}}
"""


@dataclass(frozen=True)
class BranchesInFloat(Rule):
    """Activations are int8 and some have several readers, so x86 computes what is around them in float.

    ## What it does
    Finds activations of int8 codes that several operators read, in files with pairs. Counts the operators beside them
    that ONNX Runtime computes in float on x86. Silent if the targets that are named do not have this runtime.

    ## Why it breaks INT8
    On x86 the integer kernels read uint8. Pairs with one reader are changed when the file is loaded, those with several
    are not. Operators between both kinds run in float: two of five in a residual network. Values are the same, but such
    a file took 1.6 to 3.3 times as long as one of uint8 on five networks, and longer than the float model on four.

    ## What to do
    Quantise the float model again with activations of uint8.

    ## Sources
    onnxruntime 1.32.0, qdq_s8_to_u8.cc and qdq_selectors.cc; the models that it writes after optimisation.
    """

    code: ClassVar[str] = "QR004"
    name: ClassVar[str] = "branches-in-float"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_network("uint8", 128), why="Kernels on x86 read uint8."),
        Example(_network("int8", 0, "Gemm(dc, dw)"), why="Each pair has one reader, and becomes uint8."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_network("int8", 0), flags=("product",), why="Two operators read `q`, which stays int8."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for the model, at the first of the operators."""
        if facts.targets and _CPU not in facts.targets:
            yield Silence(whole_model(facts), "the targets are other runtimes")
            return
        model, pairs = facts.model, Pairs(facts)
        int8 = [pair for pair in pairs.unique() if pair.elem_type == TensorProto.INT8 and not pair.dynamic]
        several = {pair.codes for pair in int8 if _readers(model, pair.codes) > 1}
        with_kernel = [node for node in model.nodes if node.op_type in _LAYERS | _OTHERS] if pairs.activations else []
        in_float = [node for node in with_kernel if len(_kinds(model, pairs, several, node)) > 1]
        if not in_float:
            yield Silence(whole_model(facts), "no operator stands between pairs that stay int8 and pairs that do not")
            return
        held = "tensor of int8 codes has" if len(several) == 1 else "tensors of int8 codes have"
        yield self.finding(
            model.locate(in_float[0]),
            f"On x86, ONNX Runtime computes {len(in_float)} of {len(with_kernel)} operators in float: "
            f"{len(several)} {held} several readers.",
            metrics={"operators_in_float": len(in_float), "operators": len(with_kernel), "tensors": len(several)},
            remedy=Remedy(
                "Quantise again with activations of uint8; results stay as good, and integer kernels run.",
                change=Requantisation(options=("activation_type=QuantType.QUInt8",)),
            ),
            places=[model.locate(node) for node in in_float[1:]],
        )


def _readers(model: Model, codes: str) -> int:
    """How many operators read the values of a tensor behind its DequantizeLinear; its sizes are computed beforehand."""
    behind = [node for node in model.consumers(codes) if node.op_type == "DequantizeLinear"]
    readers = [reader for node in behind for reader in model.consumers(node.output)]
    return sum(not reader.operator.has(Trait.MEASURES) for reader in readers)


def _kinds(model: Model, pairs: Pairs, several: set[str], node: Node) -> set[bool]:
    """Whether codes that the operator reads and writes stay int8: one answer, or both."""
    inputs = node.inputs[:1] if node.op_type in _LAYERS - {"MatMul"} else node.inputs
    read = [pairs.source(name) for name in inputs if not model.is_constant(name)]
    return {pair.codes in several for pair in (*read, pairs.destination(node.output)) if pair is not None}
