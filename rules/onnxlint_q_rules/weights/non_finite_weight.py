"""Constants that are not numbers.

The scale of a tensor is made of its largest magnitude. One infinity makes it infinite, so that every other value
becomes zero and the infinity itself becomes `inf / inf`. One NaN makes it NaN or is silently dropped, depending on the
tool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q import FLOATS, Confidence, Example, Facts, Finding, Model, Node, Rule, Severity, Silence, Trait, Weights

# Inputs for which infinity is the customary way to say "no bound".
_BOUNDS = {"Clip": (1, 2), "Pad": (2,), "Max": (0, 1), "Min": (0, 1)}
# What puts a constant beside values, or in their place.
_PUTS = Trait.ADDS | Trait.CHOOSES | Trait.MOVES | Trait.COPIES | Trait.JOINS
_MASKED = """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[N, 4, 4] scores, bool[N, 1, 4] keep) => (float[N, 4, 4] p)
<float lowest = {0}> {
  m = Where(keep, scores, lowest)
  p = Softmax <axis = -1> (m)
}
"""
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 4] x) => (float[N, 4] y)
<float bottom = {0.0}>
{
  [dense] features = Gemm(x, w)
  [clip] y = Clip(features, bottom, top)
}
"""


def _with(value: float) -> Weights:
    """A weight with one such value in it, and an unbounded Clip."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        weight = random.normal(size=(4, 4)).astype(np.float32)
        weight[1, 2] = value
        return {"bottom": np.asarray(0, np.float32), "top": np.asarray(np.inf, np.float32), "w": weight}

    return make


def _lowest(_: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    return {"lowest": np.asarray(-np.inf, np.float32)}


@dataclass(frozen=True)
class NonFiniteWeight(Rule):
    """A constant that a node reads holds NaN or infinity.

    ## What it does
    Reads every float constant that is used, in every graph of the file, and names those with NaN or infinite values.
    An infinite bound of Clip, Pad, Max or Min is fine. A scale is left to invalid-scale, a mask to infinite-mask, and
    minus infinity that no layer reads stands for a value that is not there.

    ## Why it breaks INT8
    The scale comes from the largest magnitude of a tensor: one infinity makes the scale infinite and every code zero,
    one NaN makes all of it NaN. In float the value may stay hidden behind an activation or a mask.

    ## What to do
    A NaN is a training or conversion error: restore the weight from the checkpoint. Infinite weights mostly come from
    a conversion to float16, which ends at 65504: convert with clipping, or keep the tensor in float32.

    ## Sources
    ONNX operator specification, QuantizeLinear.
    """

    code: ClassVar[str] = "QW005"
    name: ClassVar[str] = "non-finite-weight"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_with(1.0), why="The weight is finite; an infinite bound of Clip means no bound."),
        Example(_MASKED, weights=_lowest, why="Minus infinity masks scores, which is no weight."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("dense",), weights=_with(np.nan), why="One weight is NaN."),
        Example(_NETWORK, flags=("dense",), weights=_with(-np.inf), why="One weight is minus infinity."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every constant with such values, once, and every fold that makes some; a scale is for invalid-scale."""
        model = facts.model
        scales = {pair.scale for pair in facts.quantized}
        weights = {model.constants.origin(layer.folded.layer.weight): layer.node for layer in facts.weights}
        for key, reader in _constants(model):
            node = weights.get(key, reader)
            nans, infinities = (0, 0) if key in scales else _count(model, key)
            if not nans + infinities:
                what = "is a scale, which invalid-scale checks" if key in scales else "holds finite values only"
                yield Silence(model.locate(node), f"constant {key!r} {what}")
                continue
            if key not in weights and not nans and _is_absent(model, key, reader):
                yield Silence(model.locate(node), f"minus infinity in constant {key!r} says that there is no value")
                continue
            severity = Severity.ERROR if nans or key in weights else Severity.WARNING
            yield self._report(facts, node, f"constant {key!r}", (nans, infinities), severity)
        for layer in facts.layers:
            norm = layer.folded.after or layer.folded.before
            made = layer.weight.non_finite
            if norm is not None and made and (made := made - layer.before.non_finite) > 0:
                yield self._report(facts, norm.node, "weight with BatchNorm folded in", (made, 0), Severity.ERROR)

    def _report(self, facts: Facts, node: Node, what: str, broken: tuple[int, int], severity: Severity) -> Finding:
        nans, infinities = broken
        parts = [f"{nans} NaN"] * (nans > 0) + [f"{infinities} infinite"] * (infinities > 0)
        number = "value" if nans + infinities == 1 else "values"
        return self.finding(
            facts.model.locate(node),
            f"The {what} holds {' and '.join(parts)} {number}, so it has no int8 scale.",
            remedy="Restore the constant from the checkpoint. If it was converted to float16, convert it again with "
            "clipping.",
            metrics={"nan_values": nans, "infinite_values": infinities},
            severity=severity,
        )


def _constants(model: Model) -> Iterator[tuple[str, Node]]:
    """Every stored float constant that is read, with the first node that reads it."""
    names: set[str] = set()
    for node in model.nodes:
        for position, key in enumerate(node.inputs):
            stored = key not in names and key in model.constants and model.constants.origin(key) == key
            if not stored or (node.is_standard and position in _BOUNDS.get(node.op_type, ())):
                continue
            names.add(key)
            if _is_float(model, key):
                yield key, node


def _is_absent(model: Model, key: str, reader: Node) -> bool:
    """Whether minus infinity is one of at most two values, and its reader puts it in place of others or adds it."""
    values = np.unique(model.constants[key])
    two = values.size <= 2 and values[0] == -np.inf and bool(np.isfinite(values[1:]).all())
    return two and reader.operator.has(_PUTS)


def _is_float(model: Model, key: str) -> bool:
    tensor = model.constants.initializer(key)
    if tensor is not None:
        return tensor.data_type in FLOATS
    producer = model.producer(key)
    value = producer.attributes.get("value") if producer is not None else None
    return value.data_type in FLOATS if isinstance(value, onnx.TensorProto) else value is None


def _count(model: Model, key: str) -> tuple[int, int]:
    """How many NaNs and how many infinities."""
    value = model.constants[key]
    if value.dtype.kind in "OSUib":
        return 0, 0
    broken = value.size - int(np.count_nonzero(np.isfinite(value)))
    nans = int(np.count_nonzero(np.isnan(value))) if broken else 0
    return nans, broken - nans
