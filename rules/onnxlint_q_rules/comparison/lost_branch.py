"""Branches that one scale for several joined tensors leaves nothing of.

A Concat puts tensors of unlike ranges side by side, boxes in pixels and scores below 1, and its result gets one scale.
SQNR of the whole is that of the loud branch. Here each operand has its own, over the values of its slice:

    SQNR_k = 10 log10( sum x_k^2 / sum (x_k - xq_k)^2 )

A branch is reported where that is under `bad_db` and more than `jump_db` below what the branch had before it was
joined, and where the scale of the result, applied to the float branch alone, leaves as little.

Source: issues of detectors whose scores are all 0 after quantisation, the boxes being right: ultralytics 9037,
onnxruntime 13346; Nagel et al., arXiv 2106.08295, on tensors that share a quantiser at a concatenation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Compared, ComparedRow, Example, Facts, Finding, PartReading, Remedy, Silence
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
head (float[1, 4, 8] boxes, float[1, 2, 8] logits) => (float[1, 6, 8] y)
{
  [score] scores = Sigmoid(logits)
  [join] y = Concat <axis = 1> (boxes, scores)
}
"""


def _quantised(scale: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
head (float[1, 4, 8] boxes, float[1, 2, 8] logits) => (float[1, 6, 8] y)
<float s = {{{scale}}}, uint8 z = {{0}}> {{
  [score] scores = Sigmoid(logits)
  [join] n = Concat <axis = 1> (boxes, scores)
  q = QuantizeLinear(n, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


def _boxes(high: float) -> npt.NDArray[np.float32]:
    return np.linspace(0, high, 512, dtype=np.float32).reshape(16, 4, 8)


def _pixels(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"boxes": _boxes(300), "logits": random.normal(-2, 1, (16, 2, 8)).astype(np.float32)}


def _fractions(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"boxes": _boxes(1), "logits": random.normal(-1, 1, (16, 2, 8)).astype(np.float32)}


@dataclass(frozen=True)
class LostBranch(JumpRule):
    """One scale for joined tensors leaves nothing of one of them.

    ## What it does
    Compares each operand of a Concat with its slice of the result. Reports the branches that the scale of the result
    costs most of what they had, and how many codes they keep.

    ## Why it breaks INT8
    One scale serves all that is joined, so that a branch of small values rounds to one code. The whole tensor looks
    fine, because the loud branch is.

    ## What to do
    Leave the join and what follows it in float. Or make the branches two outputs. Or scale them alike before the join.

    ## Sources
    Nagel et al., A White Paper on Neural Network Quantization, arXiv 2106.08295, on tensors that share a quantiser.
    """

    code: ClassVar[str] = "QC008"
    name: ClassVar[str] = "lost-branch"
    supersedes: ClassVar[tuple[str, ...]] = ("QP001",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(_quantised("0.004"), reference=_FLOAT, samples=_fractions, why="Both branches end at 1."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("1.18"),
            reference=_FLOAT,
            samples=_pixels,
            flags=("join",),
            why="One step is larger than any score.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """Each branch that a join loses."""
        for row in compared.rows:
            for part in row.parts:
                unmet = self.kept(part)
                if unmet:
                    yield Silence(row.location, unmet)
                else:
                    yield self._report(compared, row, part)

    def _report(self, compared: Compared, row: ComparedRow, part: PartReading) -> Finding:
        others = [other.tensor for other in row.parts if other is not part]
        beside = f"{others[0]!r}" if len(others) == 1 else f"{len(others)} others"
        before = f" from {decibel(part.reads_db)}" if part.reads_db is not None and part.reads_db < 120 else ""
        what = f"{part.tensor!r} keeps {_codes(part.codes)} of {row.reference!r}, joined with {beside}"
        loud = max(row.parts, key=lambda other: max(abs(other.low), abs(other.high)))
        return self.report(
            compared,
            row,
            row.location,
            what,
            part="branch",
            tensor=row.quantized,
            alone_db=part.alone_db,
            lasting=f"{what}: SQNR falls{before} to {decibel(part.sqnr_db)} at {row.node!r}",
            metrics={
                "branch": part.tensor,
                "branch_db": part.sqnr_db,
                "branch_reads_db": part.reads_db,
                "used_codes": part.codes,
                "branch_low": part.low,
                "branch_high": part.high,
                "loudest": loud.tensor,
                "loudest_high": loud.high,
            },
            remedy=Remedy(
                "Leave the join and what follows it in float. Or make the branches outputs of their own.",
                nodes_to_exclude=(row.reference_node,) if row.reference_node else (),
            ),
        )


def _codes(count: int) -> str:
    return "no code but one" if count <= 1 else f"{count} codes"
