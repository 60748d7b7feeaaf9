"""Places of a network that float16 cannot hold, and the nodes around each that have to stay in float32.

A square has twice the decades of what it is made of, and its root has them back: mean squares overflow for loud
channels and vanish for quiet ones, and so do exponentials whose sum or logarithm follows. So what is kept in float32
starts where the value is made and ends at the root, the logarithm or the quotient that brings it back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxlint_q.analysis.half.tensors import OVERFLOWS, VANISHES, divisors, exponent
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import Trait

_RETURNS = frozenset({"Sqrt", "Log", "Div", "Reciprocal"})
_SUMS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Max", "Min", "Clip", "Neg", "Abs"})
_CURVES = frozenset({"Exp", "ReduceSumSquare"})
_PASSES = Trait.MOVES | Trait.COPIES | Trait.AVERAGES | Trait.ADDS
_MOST_KEPT = 256
# Steps from a guard to what it guards: a root, moves.
_REACH = 6
# A larger constant is a weight, whose values nobody chose.
_MOST_VALUES = 1 << 24


@dataclass(frozen=True, slots=True)
class Extremes:
    """Of one tensor: smallest and largest finite value, and the smallest magnitude that is not 0 (infinite if none)."""

    low: float
    high: float
    least: float

    def __or__(self, other: Extremes) -> Extremes:
        """Of the values of both."""
        return Extremes(min(self.low, other.low), max(self.high, other.high), min(self.least, other.least))

    @property
    def farthest(self) -> float:
        """The value of the largest magnitude."""
        return self.low if -self.low > self.high else self.high


@dataclass(frozen=True, slots=True)
class Hazard:
    """One place.

    Attributes:
        overflows: whether values become infinite; else they become 0 and something is divided by them.
        tensor: key of what float16 cannot hold.
        value: of an overflow the value of the largest magnitude, else the smallest magnitude that is not 0.
        nodes: to keep in float32, in data order.
        reader: the node that divides by what vanished, or takes its logarithm; None for an overflow.
    """

    overflows: bool
    tensor: str
    value: float
    nodes: tuple[Node, ...]
    reader: Node | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant that float16 cannot hold.

    Attributes:
        key: of it.
        value: of the largest magnitude.
        node: that reads it.
        reader: the node that divides by it or by what it guards; None where it is too large.
    """

    key: str
    value: float
    node: Node
    reader: Node | None = None


def find_overflows(model: Model, seen: Mapping[str, Extremes]) -> tuple[Hazard, ...]:
    """Where values pass what float16 holds, a hazard a connected region.

    Args:
        model: the network.
        seen: what its tensors hold in float32, of those that are to be float16.
    """
    over = {key for key, extremes in seen.items() if abs(extremes.farthest) >= OVERFLOWS}
    claimed: set[Node] = set()
    found: list[Hazard] = []
    for value in model.inputs:
        if value.name in over:
            nodes = _behind(model, [value.name], over, curved=False)
            claimed |= nodes
            found.append(Hazard(True, value.name, seen[value.name].farthest, _ordered(nodes)))
    for node in model.nodes:
        tensor = next((key for key in node.outputs if key in over), None)
        if tensor is None or node in claimed:
            continue
        nodes = {node} | _behind(model, node.outputs, over, curved=_curves(model, node))
        claimed |= nodes
        found.append(Hazard(True, tensor, seen[tensor].farthest, _ordered(nodes)))
    return tuple(found)


def find_underflows(model: Model, seen: Mapping[str, Extremes], vanished: Collection[str]) -> tuple[Hazard, ...]:
    """Where something is divided by values that float16 makes 0.

    Args:
        model: the network.
        seen: as of `find_overflows`.
        vanished: divisors that were 0 where they are not in float32.
    """
    found: list[Hazard] = []
    for divisor, reader in divisors(model):
        if divisor not in vanished or any(reader in one.nodes or one.reader is reader for one in found):
            continue
        if model.is_constant(divisor):
            found.append(Hazard(False, divisor, least_of(model, divisor), (reader,), reader))
            continue
        nodes = _before(model, divisor, seen)
        tensors = [node.output for node in _ordered(nodes) if _vanishes(seen, node.output)]
        tensor = tensors[0] if tensors else divisor
        if _vanishes(seen, divisor):
            nodes.add(reader)
        found.append(Hazard(False, tensor, seen[tensor].least, _ordered(nodes), reader))
    return tuple(found)


def find_constants(model: Model, halves: Collection[str]) -> Iterator[Constant]:
    """Constants that become infinite, and guards of a division that become 0.

    Args:
        model: the network.
        halves: keys of the tensors that are to be float16.
    """
    known = dict(divisors(model))
    told = set[str]()
    for node in model.nodes:
        for slot, key in enumerate(node.inputs):
            if key not in halves or key in told or not model.is_constant(key) or node.op_type == "Constant":
                continue
            value = model.constant(key)
            if value is None or not 0 < value.size <= _MOST_VALUES:
                continue
            sizes = np.abs(value[np.isfinite(value)]).astype(np.float64)
            largest = float(sizes.max()) if sizes.size else 0.0
            if largest >= OVERFLOWS:
                told.add(key)
                yield Constant(key, float(value.ravel()[np.argmax(np.where(np.isfinite(value), abs(value), 0))]), node)
            elif 0 < largest <= VANISHES and known.get(key) is node:
                told.add(key)
                yield Constant(key, largest, node, node)
            elif largest <= VANISHES and _guards(node, slot):
                reader = _divides(model, node, known)
                if reader is not None:
                    told.add(key)
                    yield Constant(key, largest, node, reader)


def least_of(model: Model, constant: str) -> float:
    """The smallest magnitude of a constant that is not 0; infinite where there is none."""
    value = model.constant(constant)
    sizes = np.abs(value[value != 0]) if value is not None and value.dtype.kind == "f" else np.empty(0)
    return float(sizes.min()) if sizes.size else math.inf


def _guards(node: Node, slot: int) -> bool:
    return node.op_type in {"Add", "Max"} or (node.op_type == "Clip" and slot == 1)


def _divides(model: Model, node: Node, known: Mapping[str, Node]) -> Node | None:
    """The node that divides by the result of another, its root taken or not."""
    tensors = [node.output]
    for _ in range(_REACH):
        for tensor in tensors:
            if tensor in known:
                return known[tensor]
        readers = (reader for tensor in tensors for reader in model.consumers(tensor))
        tensors = [one.output for one in readers if one.op_type == "Sqrt" or one.operator.has(Trait.MOVES)]
        if not tensors:
            break
    return None


def _behind(model: Model, tensors: Iterable[str], over: Collection[str], *, curved: bool) -> set[Node]:
    """What reads values that do not fit; behind a square or an exponential also what leads to their root or sum."""
    kept: set[Node] = set()
    queue = list(tensors)
    while queue and len(kept) < _MOST_KEPT:
        tensor = queue.pop(0)
        for reader in model.consumers(tensor):
            passes, ends = _passes(model, reader), _returns(model, reader)
            if reader in kept or not (tensor in over or (curved and (passes or ends))):
                continue
            kept.add(reader)
            if any(key in over for key in reader.outputs) or (curved and passes and not ends):
                queue += reader.outputs
    return kept


def _before(model: Model, divisor: str, seen: Mapping[str, Extremes]) -> set[Node]:
    """What makes a divisor, back to the square or the exponential that it is made of."""
    kept: set[Node] = set()
    queue = [divisor]
    while queue and len(kept) < _MOST_KEPT:
        node = model.producer(queue.pop(0))
        if node is None or node in kept or model.is_constant(node.output):
            continue
        curves, ends = _curves(model, node), _returns(model, node)
        if not (ends or curves or (_passes(model, node) and _vanishes(seen, node.output))):
            continue
        kept.add(node)
        if not curves and node.op_type != "Div":
            queue += [key for key in node.inputs if key]
    return kept


def _vanishes(seen: Mapping[str, Extremes], tensor: str) -> bool:
    return tensor in seen and seen[tensor].least <= VANISHES


def _curves(model: Model, node: Node) -> bool:
    """Whether it makes squares, higher powers or exponentials."""
    power = exponent(model, node)
    square = node.op_type == "Mul" and len(set(node.inputs)) == 1
    return node.op_type in _CURVES or square or (power is not None and power > 1)


def _returns(model: Model, node: Node) -> bool:
    """Whether it takes a root, a logarithm or a quotient."""
    power = exponent(model, node)
    return node.op_type in _RETURNS or (power is not None and power < 1)


def _passes(model: Model, node: Node) -> bool:
    """Whether it sums values or hands them on, as they are or times a constant."""
    scales = node.op_type == "Mul" and any(key and model.is_constant(key) for key in node.inputs)
    return node.op_type in _SUMS or scales or node.operator.has(_PASSES)


def _ordered(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.order))
