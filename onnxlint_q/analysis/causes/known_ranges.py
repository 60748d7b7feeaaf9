"""Between which values a tensor lies by what the file alone says: bounded functions, constants, stored scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnxlint_q.analysis.causes.gates import gated_low
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import Trait

Range = tuple[float, float]
"""Smallest and largest value; an end that nothing bounds is infinite."""

UNKNOWN: Range = (-math.inf, math.inf)
_SAME = Trait.MOVES | Trait.COPIES | Trait.QUANTIZES | Trait.JOINS | Trait.CHOOSES
# A mean lies between what it is taken of; a padded pooling takes zeros in, too.
_BETWEEN = Trait.AVERAGES | Trait.RESAMPLES
_DEEPEST = 64
# Results of a recurrent operator from here on are cell states, which nothing bounds.
_STATES = 2


class KnownRanges:
    """Answers for one model; each tensor is looked at once.

    Args:
        model: the graph.
        stored: what scales in the file can hold, by tensor or codes.
    """

    def __init__(self, model: Model, stored: Mapping[str, Range] | None = None) -> None:
        self.model = model
        self._stored = stored or {}
        self._known: dict[str, Range] = {}

    def of(self, key: str, depth: int = 0) -> Range:
        """Between which values a tensor lies, codes taken for the values that they stand for."""
        if key not in self._known:
            if depth >= _DEEPEST:
                return self._stored.get(key, UNKNOWN)
            found = self._made(key, depth)
            low, high = self._stored.get(key, UNKNOWN)
            # What lies beyond a stored range is clipped to its end.
            self._known[key] = min(max(found[0], low), high), max(min(found[1], high), low)
        return self._known[key]

    def is_squashed(self, key: str) -> bool:
        """Whether a tensor is what a Sigmoid, a Tanh or the like makes, which large inputs take to both of its ends."""
        node = self.model.producer(key)
        if node is None or node.operator.has(Trait.NORMALISES):
            return False
        return bool(np.isfinite(_bounds(node, key)).all())

    def _made(self, key: str, depth: int) -> Range:
        value = self.model.constant(key)
        if value is not None and key not in self._stored:
            return _ends(value)
        node = self.model.producer(key)
        if node is None or key not in node.operator.results_of(node.outputs):
            return UNKNOWN
        inputs = [self.of(name, depth + 1) for name in node.operator.data_of(node.inputs)]
        low, high = self._computed(node, inputs) if inputs else UNKNOWN
        least, most = _bounds(node, key)
        return max(low, least), min(high, most)

    def _computed(self, node: Node, inputs: Sequence[Range]) -> Range:
        operator, together = node.operator, _hull(inputs)
        if node.is_standard and node.op_type == "Clip":
            least, most = self._clip(node)
            return min(max(together[0], least), most), max(min(together[1], most), least)
        if node.is_standard and node.op_type in {"Min", "Max"}:
            choose = min if node.op_type == "Min" else max
            return choose(low for low, _ in inputs), choose(high for _, high in inputs)
        if operator.has(_SAME):
            filled = [(0.0, 0.0)] if operator.has(Trait.FILLS) else []
            if node.op_type == "Pad" and node.input(2):
                filled.append(self.of(node.input(2)))
            return _hull([together, *filled])
        if operator.form == "Relu":
            return together  # its bounds cut the rest
        if operator.has(_BETWEEN) and node.text("mode", "") != "cubic":
            return _hull([together, (0.0, 0.0)])
        if node.is_standard and len(inputs) == 2 and operator.has(Trait.ADDS | Trait.SCALES):
            low, high = _combined(node.op_type, *inputs)
            return max(low, gated_low(self.model, node)), high
        return UNKNOWN

    def _clip(self, node: Node) -> Range:
        ends = (self.model.constant(node.input(1)), self.model.constant(node.input(2)))
        low, high = (float(end.reshape(-1)[0]) if end is not None and end.size == 1 else None for end in ends)
        return (
            node.float("min", -math.inf) if low is None else low,
            node.float("max", math.inf) if high is None else high,
        )


def _bounds(node: Node, key: str) -> Range:
    """What an operator cannot pass; activations that a recurrent one names may have any range."""
    if node.operator.bounds is None or node.attributes.get("activations") or key in node.outputs[_STATES:]:
        return UNKNOWN
    return node.operator.bounds


def _ends(value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Range:
    if not value.size or value.dtype.kind not in "fiub":
        return UNKNOWN
    low, high = float(value.min()), float(value.max())
    return UNKNOWN if math.isnan(low) or math.isnan(high) else (low, high)


def _hull(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _combined(op_type: str, one: Range, other: Range) -> Range:
    (low, high), (least, most) = one, other
    if op_type == "Add":
        return low + least, high + most
    if op_type == "Sub":
        return low - most, high - least
    if op_type == "Div":
        if least <= 0 <= most:
            return UNKNOWN
        least, most = 1 / most, 1 / least
    # Zero times an unbounded value is zero here: the end is never taken.
    ends = [a * b if a and b else 0.0 for a in (low, high) for b in (least, most)]
    return min(ends), max(ends)
