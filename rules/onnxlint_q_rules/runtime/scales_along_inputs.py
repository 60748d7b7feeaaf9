"""Weights with a scale for each input, where an integer product needs one for each output.

    y[n] = sum over k of x[k] · w[k, n] · s[k]

A scale for each k cannot be taken out of the sum, so no integer kernel computes this. Where there are as many inputs as
outputs, a kernel takes the scales for those of the outputs, and every value is wrong; else the run fails, or the
product is computed in float. The outputs are axis 0 of Conv, axis 1 of MatMul and Gemm, and axis 0 of Gemm with transB.
ConvTranspose is left out: runtimes do not agree on its axis.

Source: ONNX operator specification, DequantizeLinear-13; run here with ONNX Runtime 1.20.1 and 1.32.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Role,
    Rule,
    Severity,
    Silence,
    Use,
    applies,
    read_target,
)
from onnxlint_q_rules.runtime.said import figures, tensor_of


def _model(operator: str, axis: int, weight: str = "int8[2, 2]", shape: str = "[N, 2]") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
small (float{shape} x) => (float{shape} y)
<float x_s = {{0.02}}, uint8 x_z = {{128}}, {weight} w = {{100, 20, -30, 90}}, float[2] w_s = {{0.01, 0.3}},
 int8[2] w_z = {{0, 0}}, float y_s = {{0.05}}, uint8 y_z = {{128}}> {{
  codes = QuantizeLinear (x, x_s, x_z)
  values = DequantizeLinear (codes, x_s, x_z)
  weight = DequantizeLinear <axis = {axis}> (w, w_s, w_z)
  [product] result = {operator} (values, weight)
  rounded = QuantizeLinear (result, y_s, y_z)
  y = DequantizeLinear (rounded, y_s, y_z)
}}
"""


_WEIGHT_ONLY = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 2] x) => (float[N, 2] y)
<int8[2, 2] w = {100, 20, -30, 90}, float[2] w_s = {0.01, 0.3}, int8[2] w_z = {0, 0}> {
  weight = DequantizeLinear <axis = 0> (w, w_s, w_z)
  [product] y = MatMul (x, weight)
}
"""
_CONV = {"weight": "int8[2, 2, 1, 1]", "shape": "[N, 2, 2, 2]"}


@dataclass(frozen=True)
class ScalesAlongInputs(Rule):
    """A weight has a scale for each input, and an integer product takes one for each output.

    ## What it does
    Compares the axis of a weight's scales with the axis of the outputs of the operator that reads it, where the
    operator reads a quantised activation too. A Transpose between them is followed.

    ## Why it breaks INT8
    A scale for each input cannot be taken out of the sum. Where there are as many inputs as outputs, a kernel takes the
    scales for those of the outputs, and all values are wrong. Else the run fails or is done in float. With graph
    optimisation off the file looks fine.

    ## What to do
    Quantise the weight again with one scale for each output: axis 0 for Conv, 1 for MatMul and Gemm, 0 for Gemm with
    transB.

    ## Sources
    ONNX operator specification, DequantizeLinear-13; run with ONNX Runtime 1.20.1 and 1.32.0.
    """

    code: ClassVar[str] = "QR003"
    name: ClassVar[str] = "scales-along-inputs"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QR001", "QR002")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("Gemm", 1), why="Axis 1 holds the outputs of a Gemm."),
        Example(_model("Gemm <transB = 1>", 0), why="With transB it is axis 0."),
        Example(_model("Conv", 0, **_CONV), why="Axis 0 holds the outputs of a Conv."),
        Example(_WEIGHT_ONLY, why="The activation is float, so the weight is dequantised as the file says."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("Gemm", 0), flags=("product",), why="The sizes match, and every value is wrong."),
        Example(_model("Gemm <transB = 1>", 1), flags=("product",), why="With transB, axis 1 holds the inputs."),
        Example(_model("Conv", 1, **_CONV), flags=("product",), why="Axis 1 holds the inputs of a Conv."),
        Example(
            _model("MatMul", 0),
            flags=("product",),
            why="The result is quantised: ONNX Runtime 1.32.0 computes this in float, and 1.20.1 computed it wrongly.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each weight of a layer that reads a quantised activation."""
        for use in facts.uses:
            outputs = use.channel_axis
            if outputs is None or use.axis is None or use.pair.block_size:
                continue
            where = facts.model.locate(use.node)
            if use.axis == outputs or use.node.op_type == "ConvTranspose":
                yield Silence(where, f"the scales of {tensor_of(use)!r} run along axis {use.axis}")
            elif use.beside is None or use.beside.role is not Role.ACTIVATION:
                yield Silence(where, "its activation is not quantised, so the weight is dequantised as the file says")
            else:
                wrong, comes = _known(facts, use)
                said = (
                    f"{tensor_of(use)!r} has a scale for each of {use.scales(facts.model)} inputs (axis {use.axis}); "
                    f"an integer {use.node.op_type} takes one for each output (axis {outputs}).",
                    comes,
                    figures(facts.deployed, where),
                )
                yield self.finding(
                    where,
                    " ".join(filter(None, said)),
                    remedy=f"Quantise this weight again with one scale for each output (axis {outputs}), or with one.",
                    metrics={"tensor": use.pair.codes, "axis": use.axis, "needed_axis": outputs},
                    severity=Severity.ERROR if wrong else Severity.WARNING,
                )


def _known(facts: Facts, use: Use) -> tuple[bool, str]:
    """Whether the installed ONNX Runtime goes wrong here, and what is known of it, one sentence."""
    about = (fact for fact in read_target("ort-cpu").facts if fact.when.get("axis") == "inputs")
    found = next((fact for fact in about if applies(fact, facts.model, use)), None)
    if found is None:
        return False, "ONNX Runtime 1.32.0 computes it in float."
    told = f"ONNX Runtime {found.versions} {found.comes}."
    return found.holds, told if found.holds else f"{told[:-1]}; newer ones compute it in float."
