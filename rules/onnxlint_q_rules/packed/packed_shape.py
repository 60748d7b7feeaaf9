"""Packed weights, scales and zero points whose shapes the operator does not take.

MatMulNBits, MatMulBnb4, GatherBlockQuantized and DynamicQuantizeLSTM say by their attributes and by their other inputs
which shape each input has:

    MatMulNBits   B [N, ceil(K/b), b*bits/8]   scales [N, ceil(K/b)]   zero points [N, ceil(ceil(K/b)*bits/8)] as bytes

with the block size `b`; scales and zero points may lie flat. The shapes of the others stand in
`onnxlint_q/graph/codes/definition.py`.

Sources: ContribOperators.md of ONNX Runtime; onnxruntime 1.32.0, contrib_ops/cpu/quantization/matmul_nbits.cc, which
refuses the file at load. MatMulBnb4, GatherBlockQuantized and DynamicQuantizeLSTM fail at load or in every run.
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
    Model,
    Node,
    Rule,
    Severity,
    Silence,
    has_packed_weight,
    shape_demands,
    whole_model,
    wrong_attributes,
)


def _model(zero_points: str, block_size: int = 16) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
product (float[2, 96] x) => (float[2, 64] y)
<uint8[64, 6, 8] w, float[64, 6] s, uint8[{zero_points}] z> {{
  [down] y = com.microsoft.MatMulNBits <K = 96, N = 64, bits = 4, block_size = {block_size}> (x, w, s, z)
}}
"""


def _weights(*shape: int) -> Any:
    def make(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
        return {
            "w": random.integers(0, 255, (64, 6, 8)).astype(np.uint8),
            "s": np.full((64, 6), 0.1, np.float32),
            "z": np.full(shape, 0x88, np.uint8),
        }

    return make


@dataclass(frozen=True)
class PackedShape(Rule):
    """A packed weight or a parameter of it has a shape that its operator does not take.

    ## What it does
    Compares packed weights, scales, zero points and biases of MatMulNBits, MatMulBnb4, GatherBlockQuantized and
    DynamicQuantizeLSTM with the shapes that the operator's definition gives them. Checks block size and bits, too.

    ## Why it breaks INT8
    The file does not load, or every run fails. A runtime that does not check reads wrong numbers.

    ## What to do
    Write the tensor in the shape that the finding names. Zero points of 4 bits lie two a byte, and each row of a weight
    starts a new byte. Or quantise the float model again with a newer version of the tool.

    ## Sources
    ContribOperators.md of ONNX Runtime; onnxruntime 1.32.0, matmul_nbits.cc.
    """

    code: ClassVar[str] = "QP009"
    name: ClassVar[str] = "packed-shape"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("64, 3"), weights=_weights(64, 3), why="Six zero points of 4 bits take three bytes a row."),
        Example(_model("192"), weights=_weights(192), why="They may lie flat."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model("192, 1"), weights=_weights(192, 1), flags=("down",), why="As many bytes, but in another shape."
        ),
        Example(
            _model("64, 6"), weights=_weights(64, 6), flags=("down",), why="One zero point a byte, of two that fit."
        ),
        Example(
            _model("64, 3", block_size=24),
            weights=_weights(64, 3),
            flags=("down",),
            why="A block size is a power of two from 16 on.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each operator with a packed weight."""
        nodes = [node for node in facts.model.nodes if has_packed_weight(node)]
        for node in nodes:
            problems = list(wrong_attributes(node)) or list(_misfits(facts.model, node))
            place = facts.model.locate(node)
            if not problems:
                yield Silence(place, "all of its inputs have the shapes of its definition")
                continue
            first, *rest = problems
            more = f"; {len(rest)} other input{'s do' if len(rest) > 1 else ' does'} not fit either" if rest else ""
            yield self.finding(
                place,
                f"{node.op_type} {node.label!r} has {first}{more}.",
                metrics={"problems": "; ".join(problems)},
                remedy="Write the tensor in this shape, or quantise the float model again with a newer version of the "
                "tool.",
            )
        if not nodes:
            yield Silence(whole_model(facts), "none of its operators has a packed weight")


def _misfits(model: Model, node: Node) -> Iterator[str]:
    """Inputs that do not have the shape that they need, in words."""
    for demand, found in shape_demands(model, node):
        if not demand.met_by(found):
            wanted = " or ".join(str(list(shape)) for shape in demand.shapes)
            yield f"{demand.name} {node.input(demand.slot)!r} of shape {list(found)}; {wanted} is needed"
