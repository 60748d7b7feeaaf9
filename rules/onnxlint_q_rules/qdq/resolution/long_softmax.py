"""Attention over so many places that an even share of it is under half a step.

The results of a Softmax over `N` places are positive and add up to 1, so a place has `1/N` on average. ONNX Runtime's
quantiser gives them the range 0 … 1 on any data: a step `s` of 1/255. What is under half a step becomes 0, and so does
half a step, which is rounded to the even code:

    1/N <= s / 2,        that is N >= 510 in eight bits,

and a product behind it sums what is left. How much that is depends on how evenly attention is spread, which data tells:
the codes of a row would add up to 1, and do so to

    kept = N s (mean code - zero point).

Measured on networks of two attention layers over 768 to 1,536 places, with random weights, under uint8 activations:

    attention      kept            output    Softmax and product in float
    even           2 … 34 %        2 … 5 dB        35 dB
    uneven        50 … 72 %       8 … 12 dB   34 … 35 dB
    sharp         96 … 98 %      23 … 24 dB   24 … 25 dB

Only what a matrix product reads is looked at: of the scores of classes the small ones are not missed.

Sources: arithmetic; onnxruntime 1.32.0, quantization/operators/softmax.py (the range 0 to 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Grid,
    Location,
    Model,
    Node,
    QuantizedTensor,
    Remedy,
    Rule,
    Severity,
    Silence,
    Trait,
    followed_by,
    grid,
    option,
    whole_model,
)
from onnxlint_q_rules.qdq.pairs import Pairs
from onnxlint_q_rules.qdq.usage import Usage, usages

_ON = Trait.MOVES | Trait.COPIES | Trait.QUANTIZES
# Before, Softmax takes all axes from its own on as one.
_ONE_AXIS = 13


def _attention(length: int, kind: str = "uint8", scale: str = "0.003921569") -> str:
    return f"""
<ir_version: 10, opset_import: ["" : 21]>
attention (float[1, 4, {length}] scores, float[1, {length}, 8] values) => (float[1, 4, 8] y)
<float s = {{{scale}}}, {kind} z = {{0}}, float sv = {{0.03}}, uint8 zv = {{128}}> {{
  [soft] p = Softmax <axis = -1> (scores)
  qp = QuantizeLinear(p, s, z)
  dp = DequantizeLinear(qp, s, z)
  qv = QuantizeLinear(values, sv, zv)
  dv = DequantizeLinear(qv, sv, zv)
  [product] y = MatMul(dp, dv)
}}
"""


def _scores(spread: float, length: int = 1024) -> Any:
    def make(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
        return {
            "scores": random.normal(scale=spread, size=(4, 1, 4, length)).astype(np.float32),
            "values": random.normal(size=(4, 1, length, 8)).astype(np.float32),
        }

    return make


@dataclass(frozen=True)
class LongSoftmax(Rule):
    """Attention over so many places is quantised in 8 bits that an even share of it becomes 0.

    ## What it does
    Finds results of Softmax that a matrix product reads and that have a scale. Compares an even share, 1 over the
    number of places, with half a step: 510 places at a scale of 1/255, 254 at 1/127. With calibration data it adds up
    what the codes keep: it is a warning if a tenth of the attention is lost, and silent if less is.

    ## Why it breaks INT8
    Small shares become 0, and together they may be most of the attention.

    ## What to do
    Leave the Softmax and the product behind it in float. Or give this tensor 16 bits. A scale for the largest share
    that calibration saw helps less: one sharp row makes it as coarse again.

    ## Sources
    Arithmetic; onnxruntime 1.32.0, quantization/operators/softmax.py.
    """

    code: ClassVar[str] = "QP018"
    name: ClassVar[str] = "long-softmax"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QP001", "QP008")

    lost: float = option(
        0.1, doc="share of the attention that the data may lose", source="noise of a tenth of the signal"
    )
    error_lost: float = option(0.5, doc="from this share on it is an error", source="half of the attention is gone")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_attention(256), why="An even share is a whole step."),
        Example(_attention(1024, "uint16", "0.0000152590"), why="With 16 bits it is 64 steps."),
        Example(_attention(1024), samples=_scores(8.0), why="Each row looks at a few places, and loses little."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_attention(1024), flags=("soft",), why="An even share is 1/1024, half a step 1/510."),
        Example(_attention(1024), flags=("soft",), samples=_scores(0.5), why="On this data everything becomes 0."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every Softmax whose result is rounded, and summed by a product."""
        model, pairs = facts.model, Pairs(facts)
        used, seen = usages(facts, pairs), False
        for node in model.nodes if pairs.activations else ():
            if node.operator.form != "Softmax":
                continue
            pair = pairs.destination(node.output)
            held = grid(model, pair) if pair is not None else None
            product = next(followed_by(model, node.output, _is_product, _ON), None)
            if pair is None or held is None or product is None:
                continue
            seen = True
            places = _places(model, node)
            if not places or places * held.scale < 2:
                yield Silence(model.locate(node), f"an even share of {places or 'unknown'} places is over half a step")
                continue
            names = (node.name, product.name)
            yield self._judged(model.locate(node), pair, held, used.get(pair.codes), places, names)
        if not seen:
            yield Silence(whole_model(facts), "no product reads a Softmax that has a scale")

    def _judged(
        self,
        place: Location,
        pair: QuantizedTensor,
        held: Grid,
        usage: Usage | None,
        places: int,
        names: tuple[str, ...],
    ) -> Finding | Silence:
        # Of made-up inputs nobody knows where they would look.
        kept = None if usage is None or usage.made_up else places * held.scale * (usage.codes.mean - held.zero_point)
        if kept is not None and 1 - kept <= self.lost:
            return Silence(place, f"the data keeps {kept:.0%} of the attention")
        share = 1 / (places * held.scale)
        message = f"An even share of {places} places is {share:.2g} steps of {pair.tensor!r}, and becomes 0"
        severity = None
        if kept is not None:
            message = f"Rounding {pair.tensor!r} loses {1 - kept:.0%} of the attention over {places} places"
            severity = Severity.ERROR if 1 - kept >= self.error_lost else Severity.WARNING
        return self.finding(
            place,
            message,
            metrics={"places": places, "scale": held.scale, "share_in_steps": share, "kept_share": kept},
            remedy=Remedy(
                "Leave the Softmax and the product behind it in float. Or give this tensor 16 bits.",
                nodes_to_exclude=names if all(names) and pair.unrounded else (),
            ),
            severity=severity,
            measured=kept is not None,
        )


def _is_product(node: Node) -> bool:
    return node.operator.form == "MatMul"


def _places(model: Model, node: Node) -> int | None:
    """Over how many places the results add up to 1; None where the file does not say."""
    shape, standard = model.shape(node.output), node.is_standard
    if not shape:
        return None
    flat = standard and model.opset < _ONE_AXIS
    axis = node.int("axis", 1 if flat else -1) % len(shape)
    lengths = shape[axis:] if flat else shape[axis : axis + 1]
    return None if None in lengths else prod(length for length in lengths if length is not None)
