"""Activations whose element type shape inference does not tell.

`quantize_static` gives a scale to what it knows to be float. Types come from onnx's shape inference, which passes over
operators of other domains: behind a FastGelu of the transformer optimiser nothing is known, as far as no declared
output or value_info says it. ONNX Runtime 1.32.0:

- QDQ leaves such a tensor without a scale, with a line in the log ("failed to infer the type of tensor"); the layer
  that reads it is not quantised;
- QOperator raises "AttributeError: 'NoneType' object has no attribute 'extend'" where a layer reads one;
- `quantize_dynamic` quantises the layer;
- `quant_pre_process(skip_symbolic_shape=True)` and the option DefaultTensorType change nothing;
- with a type in `value_info` both formats are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    ROOT,
    Confidence,
    Example,
    Facts,
    Finding,
    Node,
    Rule,
    Severity,
    Silence,
    is_quantized,
    whole_model,
)


def _model(operator: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
fused (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {{1, 2, 3, 4}}> {{
  [gelu] h = {operator} (x)
  [dense] y = MatMul (h, w)
}}
"""


@dataclass(frozen=True)
class UntypedTensors(Rule):
    """Tensors have no type after shape inference, so the static quantiser passes over them.

    ## What it does
    Looks at the layers of a float model that the static quantiser handles. Lists the activations that they read and
    whose element type onnx's shape inference does not know, as behind an operator of another domain.

    ## Why it breaks INT8
    It does not, but `quantize_static` leaves these tensors, and the layers that read them, in float. It says so only in
    its log. Its QOperator format fails with an AttributeError.

    ## What to do
    Quantise first, and fuse operators afterwards. Or add the types to the `value_info` of the file.

    ## Sources
    onnxruntime 1.32.0, quantization/qdq_quantizer.py (_is_tensor_quantizable), measured.
    """

    code: ClassVar[str] = "QG016"
    name: ClassVar[str] = "untyped-tensors"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (Example(_model("Relu"), why="The onnx package knows what a Relu gives."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model("com.microsoft.FastGelu"),
            flags=("dense",),
            why="The onnx package does not know what a FastGelu gives.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the first layer that reads such a tensor."""
        nodes = dict.fromkeys(layer.node for layer in facts.layers if facts.is_float)
        readers = {node: _untyped(facts, node) for node in nodes}
        found = {node: keys for node, keys in readers.items() if keys}
        if not found:
            yield Silence(whole_model(facts), "every activation that a layer of a float model reads has a type")
            return
        tensors = list(dict.fromkeys(key for keys in found.values() for key in keys))
        more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
        have = "have" if more else "has"
        left = "1 layer" if len(found) == 1 else f"{len(found)} layers"
        yield self.finding(
            facts.model.locate(next(iter(found))),
            f"{tensors[0]!r}{more} {have} no type after shape inference: quantize_static leaves {left} in float",
            remedy="Quantise first and fuse afterwards, or add the types to the file's value_info. The QOperator "
            "format fails on such a model.",
            metrics={"tensors": len(tensors), "layers": len(found)},
            places=[facts.model.locate(node) for node in list(found)[1:]],
        )


def _untyped(facts: Facts, node: Node) -> tuple[str, ...]:
    """Activations without a type that a layer reads, if the static quantiser handles it."""
    if node.graph != ROOT or not is_quantized(node):
        return ()
    model = facts.model
    read = (key for key in node.inputs if key and not model.is_constant(key))
    return tuple(key for key in read if (known := model.types.get(key)) is None or not known.elem_type)
