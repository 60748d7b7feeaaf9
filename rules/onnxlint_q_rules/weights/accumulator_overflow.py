"""Sums of so many integer products that they pass the largest int32.

Integer kernels add `(x - z_x)(w - z_w)` in 32 bits, and what passes `2^31 - 1` comes back with the other sign. With
codes of the input between `lo` and `hi` from its zero point, a channel with positive weights that add up to `P` steps
and negative ones that add up to `M` reaches

    max(P hi + M |lo|, P |lo| + M hi)        on the input that is the worst for it,
    |P - M| max(hi, |lo|)                    on one that is at the end of its range everywhere, as a white picture is.

Only the second is likely: weights of both signs cancel out. It takes averages, integrals or filters with weights of one
sign. Under 66,312 products of uint8 and int8 codes neither is possible.

Seen with ONNX Runtime 1.32.0 on x86: MatMulInteger, QLinearMatMul, and MatMul, Gemm and Conv between pairs return sums
of 67,000 products of 255 and 127 with the wrong sign, those of 66,000 rightly; without optimisation, in float, both are
right. Nothing tells of it.

Sources: onnxruntime 1.32.0, run here; ONNX operator specification, MatMulInteger and ConvInteger (int32 results).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Layer,
    Product,
    Remedy,
    Rule,
    Severity,
    Silence,
    grid,
    whole_model,
)
from onnxlint_q_rules.qdq.pairs import Pairs

Vector = npt.NDArray[np.float64]
_LARGEST = 2**31 - 1
# Any zero point of eight bits, the best of them for the sum.
_ANY = (0, 255)
_INT8 = 127
# Of uint8 inputs and weights from -128 on.
_FEWEST = _LARGEST // (255 * 128)
_INTEGER = {Product.CONVOLUTION, Product.GEMM, Product.MATMUL}


def _model(inputs: int) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
sum (float[N, {inputs}] x) => (float[N, 1] y)
<float s = {{0.004}}, uint8 z = {{0}}, float sw = {{0.01}}, int8 zw = {{0}}> {{
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  dw = DequantizeLinear(w, sw, zw)
  [total] y = MatMul(d, dw)
}}
"""


_FLOAT = """
<ir_version: 8, opset_import: ["" : 17]>
mean (float[1, 70000] x) => (float[1, 1] y) {
  [total] y = MatMul(x, w)
}
"""


def _codes(inputs: int, low: int) -> Any:
    def make(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
        return {"w": random.integers(low, 128, (inputs, 1)).astype(np.int8)}

    return make


def _mean(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    return {"w": np.full((70000, 1), 1 / 70000, np.float32)}


@dataclass(frozen=True)
class AccumulatorOverflow(Rule):
    """A layer sums so many integer products that the sum can pass the largest int32.

    ## What it does
    Adds up the codes of each output channel of layers with more than 65,000 products for one output. It is a warning if
    an input that is at the end of its range everywhere overflows, and an info if only the worst possible input does.
    Of a float model the codes are those of int8 with one scale a channel. Stacks of matrices are not looked at.

    ## Why it breaks INT8
    The sum comes back with the other sign. Nothing tells of it, and it happens on some inputs only.

    ## What to do
    Split the layer: two sums of half of the inputs, which are added in float. Or leave it in float.

    ## Sources
    onnxruntime 1.32.0, run here; ONNX operator specification, MatMulInteger and ConvInteger.
    """

    code: ClassVar[str] = "QW008"
    name: ClassVar[str] = "accumulator-overflow"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model(66000), weights=_codes(66000, 127), why="The largest sum is 0.995 times the largest int32."),
        Example(_model(140000), weights=_codes(140000, -127), why="Weights of both signs: P and M are half as much."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model(67000), flags=("total",), weights=_codes(67000, 127), why="It is 1.01 times the largest int32."),
        Example(_FLOAT, flags=("total",), weights=_mean, why="The mean of 70,000 values has weights of 127 in int8."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every layer with enough products, in codes or before it has any."""
        pairs, seen = Pairs(facts), False
        for layer, above, below in _float_codes(facts) if facts.is_float else _stored_codes(facts):
            ends = _ends(facts, pairs, layer)
            if ends is None:
                continue
            seen = True
            low, high = ends
            likely = float(np.abs(above - below).max()) * max(high, -low)
            most = float(np.maximum(above * high - below * low, below * high - above * low).max())
            if most <= _LARGEST:
                unmet = f"no sum of its codes is over {most / _LARGEST:.2g} times the largest int32"
                yield Silence(facts.model.locate(layer.node), unmet)
                continue
            yield self._report(facts, layer, likely, most)
        if not seen:
            yield Silence(whole_model(facts), f"no output is the sum of more than {_FEWEST} integer products")

    def _report(self, facts: Facts, layer: Layer, likely: float, most: float) -> Finding:
        surely = likely > _LARGEST
        which = "an input at the end of its range" if surely else "the worst input"
        times = (likely if surely else most) / _LARGEST
        return self.finding(
            facts.model.locate(layer.node),
            f"On {which} the sum of {layer.products} integer products is {times:.3g} times the largest int32",
            metrics={"products": layer.products, "end_of_range_sum": likely, "largest_sum": most},
            remedy=Remedy(
                "Split it: two sums of half of the inputs, which are added in float. Or leave the layer in float.",
                nodes_to_exclude=(layer.node.name,) if layer.node.name and layer.is_float else (),
            ),
            severity=None if surely else Severity.INFO,
        )


def _stored_codes(facts: Facts) -> Iterator[tuple[Layer, Vector, Vector]]:
    """What the positive and the negative codes of each output channel add up to."""
    for kept in facts.kept_codes(_FEWEST):
        if _is_one_sum(kept.layer):
            yield kept.layer, kept.above, kept.below


def _float_codes(facts: Facts) -> Iterator[tuple[Layer, Vector, Vector]]:
    """The same of the codes that a weight would have."""
    schemes = [scheme for scheme in facts.schemes if scheme.activations is not None and scheme.activations.bits == 8]
    for part in facts.weights:
        layer = part.folded.layer
        wanted = layer.products >= _FEWEST and _is_one_sum(layer) and not part.weight.non_finite
        if not wanted or not any(scheme.quantises(layer) and scheme.weights.bits == 8 for scheme in schemes):
            continue
        weight = layer.by_channel(layer.read_weight(facts.model)).astype(np.float64)
        largest = np.abs(weight).max(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            codes = np.rint(np.nan_to_num(weight / largest, posinf=0.0, neginf=0.0) * _INT8)
        yield layer, np.maximum(codes, 0).sum(axis=1), -np.minimum(codes, 0).sum(axis=1)


def _is_one_sum(layer: Layer) -> bool:
    """Whether the codes of a channel are those of one sum."""
    return layer.inputs.product in _INTEGER and layer.stacked == 1


def _ends(facts: Facts, pairs: Pairs, layer: Layer) -> tuple[int, int] | None:
    """Smallest and largest code of what a layer reads, from its zero point; None where it reads no codes of 8 bits."""
    if facts.is_float:
        return _ANY
    pair = pairs.source(layer.input)
    ends = pair.code_range if pair is not None else None
    if pair is None or ends is None or ends[1] - ends[0] != _ANY[1]:
        return None
    held = grid(facts.model, pair)
    return _ANY if held is None else (ends[0] - held.zero_point, ends[1] - held.zero_point)
