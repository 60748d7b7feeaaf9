"""A weight or bias of a float model that several nodes read, and that no single scale fits.

A bias is stored in steps of `s_x s_w`, so it has as many scales as readers. ONNX Runtime's quantiser of integer
operators stores a bias once, for the first of them; for the others it is wrong by the ratio

    (s_x s_w of this reader) / (s_x s_w of the first)

A weight has one scale a channel along the axis that its reader keeps: a Gemm with and one without `transB` need two.

Two things go wrong with any scales (ONNX Runtime 1.32.0; `clashing_copies` and `turned_again` say how):

| shared | quantiser | the file |
|---|---|---|
| a bias `b`, while a tensor is called `b0` | quantize_static | mixes up the two: does not load, or is wrong |
| W and R of two LSTM | quantize_dynamic, one scale a tensor | runs; -3 dB at the output |
| W and R of two LSTM | quantize_dynamic, one scale a channel | fails in every run |
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
    clashing_copies,
    own_constants,
    turned_again,
    whole_model,
)


def _heads(bias: str, other: str = "b", result: str = "y") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
heads (float[N, 2] x) => (float[N, 2] {result}, float[N, 2] z)
<float[2, 2] w0 = {{1, 2, 3, 4}}, float[2, 2] w1 = {{9, 8, 7, 6}}, float[2] b = {bias}, float[2] c = {{1, 2}}> {{
  [first] {result} = Gemm(x, w0, b)
  [second] z = Gemm({result}, w1, {other})
}}
"""


@dataclass(frozen=True)
class SharedConstant(Rule):
    """Several layers share one weight or bias that quantisers need once for each of them.

    ## What it does
    Looks at the layers of a float model. Finds biases that several layers read, and weights that several nodes read
    along different axes. A bias of zeros fits every scale. Warns of a bias whose copy gets a name that is taken, and,
    under a dynamic scheme, of LSTM that share weights.

    ## Why it breaks INT8
    A bias is stored in steps of the input's scale times the weight's. A file of integer operators stores a shared one
    once, in the steps of its first reader; the others read another value. A weight that is read along two axes has
    its scales along one of them. `quantize_static` copies a shared bias under its name and a number; where a tensor has
    that name, the file does not load or is wrong. `quantize_dynamic` stores the weights of each LSTM transposed, and
    shared ones twice: the file computes something else, or fails in every run.

    ## What to do
    Give each reader its own copy of the constant; the float model computes the same.

    ## Sources
    ONNX operator specification, QLinearConv (bias scale = x_scale * w_scale); onnxruntime 1.32.0,
    ONNXQuantizer.quantize_bias_static (a bias that is quantised already is taken as it is),
    QDQQuantizer._dup_initializer and operators/lstm.py, measured.
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
        Example(_heads("{0, 0}", result="b0"), flags=("second",), why="A copy of `b` is called like a result."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for each such constant, at the first reader that it may not fit."""
        found: dict[tuple[str, str], list[str]] = {}
        for one in own_constants(facts) if facts.is_float else ():
            found.setdefault((one.what, one.shared), []).append(one.tensor)
        if not found:
            why = "each layer has constants of its own, or one scale fits all that read one"
            yield Silence(whole_model(facts), why if facts.is_float else "it is quantised already")
        model, worse = facts.model, dict[str, str]()
        for constant, why in _spoilt(facts):
            worse.setdefault(constant, why)
        for (what, shared), tensors in found.items():
            places = [model.locate(node) for node in model.consumers(shared) if node.output in tensors]
            why = worse.get(model.constants.origin(shared), "")
            if not why and what == "bias" and not model.constants[shared].any():
                yield Silence(places[0], "the bias that it shares is zero")
                continue
            readers = len(model.consumers(shared))
            usual = ", and integer operators store it in steps of one" if what == "bias" else " along different axes"
            yield self.finding(
                places[0],
                f"{readers} nodes read the {what} {shared!r}{why or usual}",
                remedy=f"Give each reader its own copy of the {what}; the float model computes the same.",
                metrics={"constant": shared, "readers": readers},
                places=places[1:],
                severity=Severity.WARNING if why else None,
            )


def _spoilt(facts: Facts) -> Iterator[tuple[str, str]]:
    """What a quantiser makes a file of that does not load or is wrong: the constant, and how that comes."""
    for scheme in facts.schemes:
        layers = [folded for folded in facts.folded if scheme.quantises(folded.layer)]
        if scheme.is_calibrated:
            for bias, copy in clashing_copies(facts.model, layers).items():
                yield (
                    bias,
                    f": quantize_static mixes up its copy {copy!r} with a tensor of that name",
                )
        if scheme.is_dynamic:
            fault = "fails in every run" if scheme.per_channel else "computes something else"
            for _, weight in turned_again(facts.model, (folded.layer for folded in layers)):
                yield weight, f": quantize_dynamic transposes it for each LSTM, and its {scheme.name} file {fault}"
