"""Products with 4-bit weights that round their input, too.

The attribute `accuracy_level` of MatMulNBits says in what the kernel may hold its input: 0 unset, 1 float32, 2 float16,
3 bfloat16, 4 int8. With 4 the kernel quantises each block of an input row to int8 with a scale of its own. A file with
weights in 4 bits then has activations in 8, and outlier channels of the input cost accuracy. Other runtimes and
providers ignore the attribute, so results differ between them.

Sources: ContribOperators.md, MatMulNBits; onnxruntime, contrib_ops/cpu/quantization/matmul_nbits.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Node, Rule, Severity, Silence, whole_model

_HELD_IN: Mapping[int, str] = {2: "float16", 3: "bfloat16", 4: "int8, a scale a block of a row"}


def _model(level: int) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
product (float[2, 32] x) => (float[2, 8] y)
<uint8[8, 2, 8] w, float[8, 2] s> {{
  [dense] y = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 16, accuracy_level = {level}> (x, w, s)
}}
"""


def _weights(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    return {"w": random.integers(0, 255, (8, 2, 8)).astype(np.uint8), "s": np.full((8, 2), 0.1, np.float32)}


@dataclass(frozen=True)
class RoundedInput(Rule):
    """Products with packed weights round their input at run time.

    ## What it does
    Lists MatMulNBits whose `accuracy_level` lets the kernel hold its input in int8, float16 or bfloat16.

    ## Why it breaks INT8
    It need not: each block of a row has its own scale. But the file is no longer weight-only where it runs, and a
    runtime that ignores the attribute gives other results.

    ## What to do
    Nothing, if a run on the device that will be used keeps its accuracy. Else quantise with `accuracy_level=1`.

    ## Sources
    ContribOperators.md, MatMulNBits.
    """

    code: ClassVar[str] = "QP010"
    name: ClassVar[str] = "rounded-input"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model(0), weights=_weights, why="The level is not set, so the input stays as it is."),
        Example(_model(1), weights=_weights, why="The input stays in float32."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model(4), weights=_weights, flags=("dense",), why="The kernel may round the input to int8."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for each level, at the first such node."""
        found: dict[int, list[Node]] = {}
        for node in facts.model.nodes:
            if (level := node.int("accuracy_level", 0)) in _HELD_IN and node.op_type == "MatMulNBits":
                found.setdefault(level, []).append(node)
        for level, nodes in found.items():
            many = f"{len(nodes)} MatMulNBits nodes let" if len(nodes) > 1 else "1 MatMulNBits node lets"
            yield self.finding(
                facts.model.locate(nodes[0]),
                f"{many} the kernel hold its input in {_HELD_IN[level]} (accuracy_level {level}).",
                metrics={"nodes": len(nodes), "accuracy_level": level},
                remedy="Measure on the device that will be used. Quantise with accuracy_level=1 to keep the input in "
                "float.",
            )
        if not found:
            yield Silence(whole_model(facts), "no product with packed weights rounds its input")
