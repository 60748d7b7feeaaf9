"""A tensor of codes that is written with one scale and read with another.

    x' = (q - z_r) * s_r   with   q = round(x / s_w) + z_w     is     x' = (s_r / s_w) x + s_r (z_w - z_r)

That is a gain and an offset that the float network does not have. Rescaling between two *different* tensors of codes is
normal; here both sides name the same one.

Sources: ONNX operator specification, QuantizeLinear and DequantizeLinear. torch and ONNX Runtime write both sides from
one observer, so a difference means that the file was edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import Confidence, Example, Facts, Finding, Model, QuantizedTensor, Rule, Severity, Silence, option
from onnxlint_q_rules.qdq.pairs import Pairs, Vector


def _model(read: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
rounding (float[1, 4] x) => (float[1, 4] y)
<float s = {{0.05}}, uint8 z = {{128}}, float s2 = {{0.05}}, uint8 z2 = {{128}},
 float wide = {{0.1}}, uint8 low = {{0}}> {{
  [write] q = QuantizeLinear(x, s, z)
  [read] y = DequantizeLinear(q, {read})
}}
"""


@dataclass(frozen=True)
class QdqParamsMismatch(Rule):
    """Codes written with one scale and read with another.

    ## What it does
    Compares the scale and zero point of each operator that reads codes with those of the operator that wrote them.

    ## Why it breaks INT8
    The tensor is multiplied by the ratio of the scales and shifted by the difference of the zero points. No layer
    behind it expects that.

    ## What to do
    Give all readers the scale and zero point of the writer.

    ## Sources
    ONNX operator specification, QuantizeLinear and DequantizeLinear.
    """

    code: ClassVar[str] = "QP006"
    name: ClassVar[str] = "qdq-params-mismatch"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    tolerance: float = option(
        1e-4,
        doc="largest accepted |ratio of scales - 1|",
        source="far above float32 rounding, far below one code of 255",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("s, z")),
        Example(_model("s2, z2"), why="The values are equal, only the names differ."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("wide, z"), flags=("read",), why="This doubles the tensor."),
        Example(_model("s, low"), flags=("read",), why="This adds 6.4 to the tensor."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each reader of codes against their writer."""
        pairs = Pairs(facts)
        for pair in pairs.activations:
            writer = pairs.by_codes[pair.codes]
            place = facts.model.locate(pair.node)
            if pair is writer or writer.codes not in writer.node.outputs or pair.dynamic or writer.dynamic:
                yield Silence(place, f"the file holds no other scale that {pair.codes!r} was written with")
                continue
            problem = self._difference(facts.model, writer, pair)
            if problem is None:
                yield Silence(place, f"it reads {pair.codes!r} with the scale and zero point of its writer")
                continue
            yield self.finding(
                place,
                f"{pair.node.op_type} {pair.node.label!r} reads {pair.codes!r} with {problem} "
                f"{writer.node.op_type} {writer.node.label!r} wrote it with",
                metrics={"codes": pair.codes, "writer": writer.node.label},
                remedy=f"Give this node the scale {writer.scale!r} and the zero point {writer.zero_point or '0'!r}.",
            )

    def _difference(self, model: Model, writer: QuantizedTensor, reader: QuantizedTensor) -> str | None:
        written, read = _scale(model, writer), _scale(model, reader)
        if written is not None and read is not None:
            if written.size != read.size:
                return f"{read.size} scales, not the {written.size} that"
            ratio = np.divide(read, written, out=np.full_like(read, np.inf), where=written != 0)
            worst = float(ratio[np.argmax(np.abs(ratio - 1))])
            if abs(worst - 1) > self.tolerance:
                return f"{worst:.4g} times the scale that"
        wrote, reads = _zero_point(model, writer), _zero_point(model, reader)
        if wrote is None or reads is None or (wrote.size != reads.size and 1 not in (wrote.size, reads.size)):
            return None
        if np.any(wrote != reads):
            return f"the zero point {reads[0]:g}, not the {wrote[0]:g} that"
        return None


def _scale(model: Model, pair: QuantizedTensor) -> Vector | None:
    stored = pair.read_scale(model)
    return None if stored is None or not stored.size else np.ravel(stored).astype(np.float64)


def _zero_point(model: Model, pair: QuantizedTensor) -> Vector | None:
    if not pair.zero_point:
        return np.zeros(1)
    stored = pair.read_zero_point(model)
    return None if stored is None or not stored.size else np.ravel(stored).astype(np.float64)
