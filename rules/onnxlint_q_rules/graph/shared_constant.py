"""A weight or bias of a float model that several nodes read, and that no single scale fits.

A bias is stored in steps of `s_x s_w`, so it has as many scales as readers. ONNX Runtime's quantiser of integer
operators stores a bias once, for the first of them; for the others it is wrong by the ratio

    (s_x s_w of this reader) / (s_x s_w of the first)

A weight has one scale a channel along the axis that its reader keeps: a Gemm with and one without `transB` need two.
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
    Rule,
    Severity,
    Silence,
    own_constants,
    whole_model,
)


def _heads(bias: str, other: str = "b") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
heads (float[N, 2] x) => (float[N, 2] y, float[N, 2] z)
<float[2, 2] w0 = {{1, 2, 3, 4}}, float[2, 2] w1 = {{9, 8, 7, 6}}, float[2] b = {bias}, float[2] c = {{1, 2}}> {{
  [first] y = Gemm(x, w0, b)
  [second] z = Gemm(y, w1, {other})
}}
"""


@dataclass(frozen=True)
class SharedConstant(Rule):
    """Several layers share one weight or bias, and no scale fits all of them.

    ## What it does
    Looks at the layers of a float model. Finds biases that several layers read, and weights that several nodes read
    along different axes. A bias of zeros fits every scale.

    ## Why it breaks INT8
    A bias is stored in steps of the input's scale times the weight's. A file of integer operators stores a shared one
    once, in the steps of its first reader; the others read another value. A weight that is read along two axes has
    its scales along one of them.

    ## What to do
    Give each reader its own copy of the constant; the float model computes the same.

    ## Sources
    ONNX operator specification, QLinearConv (bias scale = x_scale * w_scale); onnxruntime 1.32.0,
    ONNXQuantizer.quantize_bias_static (a bias that is quantised already is taken as it is).
    """

    code: ClassVar[str] = "QG008"
    name: ClassVar[str] = "shared-constant"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("shared-constants",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(_heads("{1, 2}", "c"), why="Each layer has a bias of its own."),
        Example(_heads("{0, 0}"), why="A bias of zeros is right in steps of any size."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_heads("{1, 2}"), flags=("second",), why="Both layers read `b`, whose steps fit `first`."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for each such constant, at the first reader that it may not fit."""
        found: dict[tuple[str, str], list[str]] = {}
        for one in own_constants(facts) if facts.is_float else ():
            found.setdefault((one.what, one.shared), []).append(one.tensor)
        if not found:
            why = "each layer has constants of its own, or one scale fits all that read one"
            yield Silence(whole_model(facts), why if facts.is_float else "it is quantised already")
        model = facts.model
        for (what, shared), tensors in found.items():
            places = [model.locate(node) for node in model.consumers(shared) if node.output in tensors]
            if what == "bias" and not model.constants[shared].any():
                yield Silence(places[0], "the bias that it shares is zero")
                continue
            readers = len(model.consumers(shared))
            steps = "and integer operators store it in steps of one" if what == "bias" else "along different axes"
            yield self.finding(
                places[0],
                f"{readers} nodes read the {what} {shared!r}{',' * (what == 'bias')} {steps}",
                remedy=f"Give each reader its own copy of the {what}; the float model computes the same.",
                metrics={"constant": shared, "readers": readers},
                places=places[1:],
            )
