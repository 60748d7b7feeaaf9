"""Constants that rule scores of a Softmax out; most of them stand for minus infinity.

Attention adds a large negative number to the scores that do not count, or puts it in their place. Each such constant is
followed to the Softmax that reads it. On the way stand sums, choices and moves, and products with what is 0 or 1 or a
constant: with a mask `m` of an input, `(1 - m) * c` is 0 or `c`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxlint_q.analysis.causes.extents import HIGHEST, Array, Extents, constant_at, data_slots
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import Trait
from onnxlint_q.graph.trace import REACH

LEAST = 25.0
"""Magnitude from which a constant is a mask: a score so far below the largest of its row is nothing in float32."""
LARGE = 200.0
"""Magnitude from which a smaller mask does as well: twice what one needs."""
# What leaves values as they are, and what puts several tensors together, a mask among them.
_ON_THE_WAY = Trait.MOVES | Trait.COPIES | Trait.JOINS | Trait.ADDS | Trait.SCALES | Trait.CHOOSES
_BOUNDS = frozenset({"Max", "Min"})


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a constant enters.

    Attributes:
        node: that reads it, or the ConstantOfShape that makes it.
        slot: position among its inputs; -1 for a ConstantOfShape.
        gain: what becomes of one unit of the constant at the Softmax.
    """

    node: Node
    slot: int
    gain: float


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A constant that rules scores out, and where it does.

    Attributes:
        constant: key of the stored constant, or of what a ConstantOfShape makes.
        lowest: what it puts among the scores, a finite number.
        endless: it is minus infinity, of which a quantiser makes a scale that is no number.
        entries: where it enters.
        joined: by tensor in which mask and scores meet first, the tensor of the scores.
        way: all tensors that it goes through, those that hold nothing but masks included.
        reach: by tensor that holds both, what of `lowest` is in it: 1 but for a factor in front of the Softmax.
        softmaxes: that read it, in data order.
        adds: whether it is added to scores somewhere; else it takes their place.
        reason: why another value would change what the model computes, half a sentence; empty if none is seen.
    """

    constant: str
    lowest: float
    entries: tuple[Entry, ...]
    joined: Mapping[str, str]
    way: tuple[str, ...]
    reach: Mapping[str, float]
    softmaxes: tuple[Node, ...]
    adds: bool
    endless: bool = False
    reason: str = ""

    @property
    def is_large(self) -> bool:
        """Whether a smaller one does as well."""
        return self.lowest <= -LARGE


def find_masks(model: Model) -> tuple[Mask, ...]:
    """Every mask of a model, in data order of the Softmax that reads it first."""
    return tuple(_Finder(model).masks())


def floors(masks: Sequence[Mask], lowest: Mapping[str, float] | None = None) -> Mapping[str, float]:
    """By tensor that holds scores and masks, the lowest value that a mask puts there; minus infinity is one.

    Args:
        masks: of one model.
        lowest: by constant, what it puts among the scores in place of what it does.
    """
    found: dict[str, float] = {}
    for mask in masks:
        own = -math.inf if mask.endless else mask.lowest
        value = (lowest or {}).get(mask.constant, own)
        for tensor, share in mask.reach.items():
            found[tensor] = min(found.get(tensor, 0.0), value * share)
    return found


@dataclass(slots=True)
class _Path:
    """What an entry comes to.

    Attributes:
        gains: by tensor, what one unit of the constant is in it.
        both: those of them that hold scores as well.
        softmaxes: with the gain in front of each.
        joined, adds, endless, reason: as of a Mask.
    """

    gains: dict[str, float] = field(default_factory=dict)
    both: dict[str, None] = field(default_factory=dict)
    softmaxes: dict[Node, float] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)
    adds: bool = False
    endless: bool = False
    reason: str = ""

    def stop(self, reason: str) -> None:
        self.reason = self.reason or reason


class _Finder:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.extents = Extents(model)

    def masks(self) -> Iterator[Mask]:
        found: dict[str, list[tuple[Entry, _Path, float]]] = {}
        seen = set[tuple[Node, int]]()
        for softmax in (node for node in self.model.nodes if node.operator.has(Trait.SCORES) and node.input(0)):
            for node, slot in self._entries(softmax.input(0)):
                if (node, slot) in seen:
                    continue
                seen.add((node, slot))
                told = self._told(node, slot)
                if told is not None:
                    key = node.output if slot < 0 else self.model.constants.origin(node.input(slot))
                    found.setdefault(key, []).append(told)
        for key, entries in found.items():
            yield _mask(key, entries)

    def _told(self, node: Node, slot: int) -> tuple[Entry, _Path, float] | None:
        """An entry with its way and the lowest value that it puts among scores; None if that is no mask."""
        value = constant_at(self.model, node, slot)
        if value is None or not value.size or not np.issubdtype(value.dtype, np.floating):
            return None
        finite = np.nan_to_num(value.astype(np.float64), nan=0.0, posinf=HIGHEST, neginf=-HIGHEST)
        if max(-float(finite.min()), float(finite.max())) < LEAST:
            return None
        path = self._path(node, slot)
        if not path.softmaxes:
            return None
        gain = min(path.softmaxes.values(), key=abs)
        # Where no gain is known the sign is that of the constant.
        signed = gain if gain and math.isfinite(gain) else 1.0
        lowest = max(float((finite * signed).min()), -HIGHEST)
        if lowest > -LEAST or not path.joined:
            return None
        path.endless = bool(np.isinf(value).any())
        if path.adds and node.operator.has(Trait.ADDS) and _masks_a_row(finite * signed, tuple(path.softmaxes)):
            path.stop("it masks a whole row of scores, which a larger value would let through")
        return Entry(node, slot, signed), path, lowest

    def _entries(self, scores: str) -> Iterator[tuple[Node, int]]:
        """Places where constants are read among what becomes the scores."""
        waiting, visited = deque([scores]), {scores}
        while waiting and len(visited) <= REACH:
            node = self.model.producer(waiting.popleft())
            if node is None:
                continue
            if node.is_standard and node.op_type == "ConstantOfShape":
                yield node, -1
            if not node.operator.has(_ON_THE_WAY):
                continue
            for slot in data_slots(node):
                key = node.input(slot)
                if self.model.is_constant(key):
                    # A constant bound of Max or Min says what no value is beyond; it masks nothing.
                    if node.op_type not in _BOUNDS:
                        yield node, slot
                elif key not in visited:
                    visited.add(key)
                    waiting.append(key)

    def _path(self, node: Node, slot: int) -> _Path:
        """Where the values that enter there go, up to each Softmax."""
        path = _Path()
        first = self._gain(node, slot) if slot >= 0 else 1.0
        self._meet(path, node, slot)
        waiting = deque([(node.output, first)])
        path.gains[node.output] = first
        if self.extents.of(node.output) is None:
            path.both[node.output] = None
        while waiting:
            key, gain = waiting.popleft()
            if key in self.model.output_names:
                path.stop(f"{key!r} is an output of the model, too")
            for reader in self.model.consumers(key):
                for at in (index for index, name in enumerate(reader.inputs) if name == key):
                    behind = self._behind(path, reader, at, key, gain)
                    if behind is not None and reader.output not in path.gains:
                        path.gains[reader.output] = behind
                        if self.extents.of(reader.output) is None:
                            path.both[reader.output] = None
                        waiting.append((reader.output, behind))
            if len(path.gains) > 16 * REACH:
                path.stop("it goes to too many places to follow")
                break
        if any(math.isnan(gain) for gain in path.gains.values()):
            path.stop("on the way it is multiplied by values that are not known")
        return path

    def _behind(self, path: _Path, reader: Node, slot: int, key: str, gain: float) -> float | None:
        """The gain behind a reader; None where the way ends."""
        if reader.is_standard and reader.op_type == "Softmax":
            path.softmaxes.setdefault(reader, gain)
            return None
        if reader.operator.has(Trait.MEASURES) or self._tells_zero(reader):
            return None
        if slot not in data_slots(reader) or not reader.operator.has(_ON_THE_WAY):
            if reader.operator.has(Trait.SCORES):
                path.softmaxes.setdefault(reader, gain)
            path.stop(f"the {reader.op_type} {reader.label!r} reads {key!r}, too")
            return None
        self._meet(path, reader, slot)
        return gain * self._gain(reader, slot)

    def _tells_zero(self, reader: Node) -> bool:
        """Whether a reader only tells what is masked from what is not."""
        if not reader.is_standard or reader.op_type != "Equal":
            return False
        others = (self.model.constant(key) for key in reader.inputs)
        return any(not other.any() for other in others if other is not None)

    def _meet(self, path: _Path, node: Node, slot: int) -> None:
        """Note where scores are on the other side."""
        if slot < 0 or self.extents.of(node.output) is not None:
            return
        others = [node.input(at) for at in data_slots(node) if at != slot]
        scores = next((key for key in others if self.extents.of(key) is None), None)
        held = self.model.is_constant(node.input(slot)) or self.extents.of(node.input(slot)) is not None
        if scores is None or not held or node.operator.has(Trait.SCALES):
            return
        path.joined.setdefault(node.output, scores)
        path.adds |= node.operator.has(Trait.ADDS)

    def _gain(self, node: Node, slot: int) -> float:
        """What a node makes of one unit at one of its inputs; NaN if that is not known."""
        if node.op_type == "Sub":
            return 1.0 if slot == 0 else -1.0
        if not node.operator.has(Trait.SCALES):
            return 1.0
        others = [self.extents.of(node.input(at), factor=True) for at in data_slots(node) if at != slot]
        if len(others) != 1 or others[0] is None or (node.op_type == "Div" and slot != 0):
            return math.nan
        low, high = others[0]
        if node.op_type == "Div":
            return 1 / low if low == high != 0 else math.nan
        return math.nan if low < 0 < high else (high if abs(high) >= abs(low) else low)


def _mask(key: str, entries: Sequence[tuple[Entry, _Path, float]]) -> Mask:
    reach: dict[str, float] = {}
    for entry, path, _ in entries:
        for tensor in path.both:
            share = abs(path.gains[tensor] / entry.gain)
            reach[tensor] = max(reach.get(tensor, 0.0), share if math.isfinite(share) else 1.0)
    softmaxes = dict.fromkeys(softmax for _, path, _ in entries for softmax in path.softmaxes)
    return Mask(
        constant=key,
        lowest=min(lowest for _, _, lowest in entries),
        entries=tuple(entry for entry, _, _ in entries),
        joined={tensor: scores for _, path, _ in entries for tensor, scores in path.joined.items()},
        way=tuple(dict.fromkeys(tensor for _, path, _ in entries for tensor in path.gains)),
        reach=reach,
        softmaxes=tuple(sorted(softmaxes, key=lambda node: node.order)),
        adds=any(path.adds for _, path, _ in entries),
        endless=any(path.endless for _, path, _ in entries),
        reason=next((path.reason for _, path, _ in entries if path.reason), ""),
    )


def _masks_a_row(value: Array, softmaxes: Sequence[Node]) -> bool:
    """Whether a constant, lowest where it masks, leaves nothing of a row that a Softmax reads along its last axis."""
    last = all(node.int("axis", -1) in {-1, value.ndim - 1} for node in softmaxes)
    return value.ndim > 0 and value.shape[-1] > 1 and last and bool((value <= -LARGE).all(axis=-1).any())
