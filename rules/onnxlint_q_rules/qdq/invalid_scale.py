"""Scales and zero points that no arithmetic can use.

`x = (q - zero_point) * scale` needs a positive, finite, normal scale. A scale of zero maps every code to zero and
divides by zero on the way back. A negative or non-finite one has no meaning. With a subnormal one (below `finfo.tiny`
of its type, 1.2e-38 for float32, 6.1e-5 for float16) `1 / scale` overflows. The zero point has the type of the codes,
and for int32, the type of a bias, it is zero.

Blocks of a weight that an operator unpacks are another matter. Quantisers put the value of the largest magnitude on the
lowest code, so a scale may be negative, and a block of zeros has the scale zero: that is invalid only where a code says
something else. As nothing is divided by such a scale, one of float16 may be subnormal.

Sources: ONNX operator specification, QuantizeLinear and DequantizeLinear; onnxruntime
`quant_utils.compute_scale_zp`, which replaces a subnormal scale by 1, and core/mlas/lib/q4_dq.cpp; NVIDIA/TensorRT
issue 2498 (the parser demands positive scales).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Model,
    QuantizedTensor,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
)

Kinds = tuple[tuple[str, npt.NDArray[np.bool_]], ...]


def _model(scale: str, zero_point: str = "uint8 z = {0}") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
rounding (float[1, 4] x) => (float[1, 4] y)
<float s = {{{scale}}}, {zero_point}> {{
  [write] q = QuantizeLinear(x, s, z)
  [read] y = DequantizeLinear(q, s, z)
}}
"""


def _subnormal(_: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    """Before onnx 1.23 the parser of the text reads no subnormal number."""
    return {"s": np.asarray(1e-41, np.float32)}


_BIAS = """
<ir_version: 8, opset_import: ["" : 13]>
shifted (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float[2, 2, 1, 1] w = {1, 0, 0, 1}, int32[2] b = {5, 6}, float s = {0.01}, int32 z = {7}> {
  [bias] shift = DequantizeLinear(b, s, z)
  y = Conv(x, w, shift)
}
"""


@dataclass(frozen=True)
class InvalidScale(Rule):
    """A scale or zero point is not valid.

    ## What it does
    Looks for scales that are zero, negative, NaN, infinite or subnormal. Looks for zero points of another type than the
    codes, and for zero points of int32 biases that are not zero.

    ## Why it breaks INT8
    Zero, NaN and infinity destroy the tensor. Some runtimes reject such files, others silently use another scale, so
    results differ.

    ## What to do
    Find out why the range was empty: a dead channel, a constant tensor, an overflow in calibration. Then quantise again
    with a minimum range.

    ## Sources
    ONNX operator specification; NVIDIA/TensorRT issue 2498.
    """

    code: ClassVar[str] = "QP002"
    name: ClassVar[str] = "invalid-scale"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (Example(_model("0.05"), why="The scale is a normal number above zero."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0"), flags=("write",), why="Every value becomes infinite or NaN."),
        Example(_model("-0.05"), flags=("write",), why="A scale cannot be negative."),
        Example(
            _model("1"),
            flags=("write",),
            weights=_subnormal,
            why="With 1e-41 in the place of 1 the scale is subnormal: its reciprocal overflows.",
        ),
        Example(_BIAS, flags=("bias",), why="The zero point of an int32 bias must be zero."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each pair whose parameters are stored in the file."""
        for pair in facts.quantized:
            problems = (*_bad_scales(facts.model, pair), *_bad_zero_points(facts.model, pair))
            if not problems:
                known = "computed at run time" if pair.dynamic else "positive, finite and normal"
                yield Silence(facts.model.locate(pair.node), f"the scale of {pair.tensor!r} is {known}")
            for what, count in problems:
                yield self.finding(
                    facts.model.locate(pair.node),
                    f"{pair.role.value} {pair.tensor!r} has {what}",
                    metrics={"tensor": pair.tensor, "values": count},
                    remedy=Remedy(
                        "Quantise again. If a dead channel or a constant tensor left an empty range, remove it or set "
                        "a minimum range.",
                        change=Requantisation(options=("extra_options={'MinimumRealRange': 0.0001}",)),
                    ),
                )


def _bad_scales(model: Model, pair: QuantizedTensor) -> Iterator[tuple[str, int]]:
    stored = None if pair.dynamic else pair.read_scale(model)
    if stored is None or not stored.size:
        return
    scale = np.ravel(stored)
    tiny = _tiny(scale)
    values = scale.astype(np.float64)
    kinds: Kinds = (
        ("NaN", np.isnan(values)),
        ("infinite", np.isinf(values)),
        ("negative", values < 0),
        ("zero", values == 0),
        ("subnormal", (values > 0) & (values < tiny)),
    )
    if pair.held is not None and pair.block_size:
        kinds = _in_blocks(model, pair, kinds, scale)
    for kind, hits in kinds:
        count = int(np.count_nonzero(hits))
        if count and scale.size == 1:
            value = "" if kind in {"NaN", "zero"} else f": {values[0]:.3g}"
            yield f"a scale that is {kind}{value}", 1
        elif count:
            first, verb = int(np.flatnonzero(hits)[0]), "is" if count == 1 else "are"
            yield f"{count} of {scale.size} scales that {verb} {kind}, the first at index {first}", count


def _in_blocks(model: Model, pair: QuantizedTensor, kinds: Kinds, scale: npt.NDArray[Any]) -> Kinds:
    """What is invalid of scales that an unpacked weight is only multiplied with."""
    hits = dict(kinds)
    empty = hits["zero"]
    if empty.any():
        used = pair.blocks_in_use(model)
        hits["zero"] = empty if used is None or used.shape != empty.shape else empty & used
    hits["subnormal"] = np.abs(scale.astype(np.float64)) < _tiny(scale)
    hits["subnormal"] &= ~empty & (scale.dtype != np.float16)
    return tuple((kind, hits[kind]) for kind in hits if kind != "negative")


def _tiny(scale: npt.NDArray[Any]) -> float:
    return float(np.finfo(scale.dtype).tiny) if np.issubdtype(scale.dtype, np.floating) else 0.0


def _bad_zero_points(model: Model, pair: QuantizedTensor) -> Iterator[tuple[str, int]]:
    if pair.held is not None:
        return  # the type of a zero point that its operator reads in its own way is for that to say
    known = model.types.get(pair.zero_point) if pair.zero_point and not pair.dynamic else None
    codes = model.types.get(pair.codes)
    kinds = (known.elem_type, codes.elem_type) if known is not None and codes is not None else (0, 0)
    if 0 not in kinds and kinds[0] != kinds[1]:
        names = [onnx.TensorProto.DataType.Name(kind).lower() for kind in kinds]
        yield f"a zero point of type {names[0]} for codes of type {names[1]}", 1
        return
    if pair.elem_type == onnx.TensorProto.INT32:
        zero_point = pair.read_zero_point(model)
        count = 0 if zero_point is None else int(np.count_nonzero(zero_point))
        if count:
            one = count == 1
            yield f"{'an' if one else count} int32 zero point{'s' * (not one)} other than zero", count
