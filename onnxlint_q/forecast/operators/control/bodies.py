"""Loop and Scan: the body is gone through round after round, until what it hands on no longer changes.

Where it goes along a sequence, the positions of an image are the steps, as they are for recurrent operators. One round
then makes all steps, each from the state that the step before it left in the round before. A long sequence has no
beginning: its first position goes on from the last. A short one begins anew as often as its length fits.

Any other body is run by every sample on what the round before made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.forecast.operators.control.branches import samples_of
from onnxlint_q.forecast.population import Samples, image_power, per_image, positions_of
from onnxlint_q.forecast.step import Edge, Rounds, Site, Step
from onnxlint_q.forecast.transfer import Adjoint, unbroadcast
from onnxlint_q.forecast.unmodelled import UnmodelledError, axis_in, bounded
from onnxlint_q.graph import Node
from onnxlint_q.graph.element_types import FLOATS

BODY = "body"
FADED = 1e-4
"""A change of this share of the power is none."""
# Nodes of a body times its rounds, about: a large body is gone through fewer times.
_VISITS = 1 << 12
_FEWEST = 2
# A body in a body is gone through in each round of that.
_DEEPEST = 3
_MANY_TRIPS = 1 << 24
# Scan had a batch of its own before.
_SCAN_OPSET = 9
_SLICED = "no axis of what it goes along fits its body"
_UNFIT = "its body does not fit its inputs and outputs"

Places = npt.NDArray[np.intp]
Back = Callable[[Samples], Samples]


def has_rounds(node: Node) -> bool:
    """Whether a node is a Loop or a Scan."""
    return node.op_type in {"Loop", "Scan"} and node.is_standard and BODY in node.subgraphs


def made_of(node: Node, result: str) -> str:
    """The tensor of a body that a result of the node is, or holds place by place."""
    before = node.op_type == "Loop"  # whether to go on
    return dict(zip(node.outputs, node.returns[BODY][before:], strict=False)).get(result, "")


@dataclass(frozen=True, slots=True)
class State:
    """What one round hands to the next.

    Attributes:
        outside: the tensor that the first round begins with.
        before, after: of the body, as a round begins and as it ends.
        filled: every round adds one place of its own: to a list, or to a tensor that has room for all.
    """

    outside: str
    before: str
    after: str
    filled: bool


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """In which order the positions of an image are gone through.

    Attributes:
        before: by position, the one whose state it is given; -1 where it begins anew.
        last: by position, the one that ends its sequence.
        along: the positions are steps of a sequence.
    """

    before: Places
    last: Places
    along: bool

    def hand_on(self, after: Samples, first: Samples) -> Samples:
        """What each position is given, from what all have left and what a sequence begins with."""
        given = per_image(after)[:, self.before]
        return np.where(self._begins(after), per_image(first), given).reshape(after.shape)

    def handed_back(self, rows: Samples) -> Samples:
        """The adjoint of `hand_on` for what positions have left."""
        found = np.zeros_like(per_image(rows))
        inner = np.flatnonzero(self.before >= 0)
        found[:, self.before[inner]] = per_image(rows)[:, inner]
        return found.reshape(rows.shape)

    def begun(self, rows: Samples) -> Samples:
        """The adjoint of `hand_on` for what a sequence begins with."""
        if not self.along:
            return rows
        return np.where(self._begins(rows), per_image(rows), np.float32(0)).reshape(rows.shape)

    def end(self, after: Samples) -> Samples:
        """What is left in the end, for every position of a sequence."""
        return per_image(after)[:, self.last].reshape(after.shape)

    def ended(self, rows: Samples) -> Samples:
        """The adjoint of `end`."""
        found = np.zeros_like(per_image(rows))
        for position, last in enumerate(self.last):
            found[:, last] += per_image(rows)[:, position]
        return found.reshape(rows.shape)

    def _begins(self, samples: Samples) -> npt.NDArray[np.bool_]:
        return (self.before < 0).reshape(1, -1, *(1,) * (samples.ndim - 1))


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A Loop or Scan, of whose body a round can be made.

    Attributes:
        site: the node.
        states: what the rounds hand on.
        slices: tensors outside, the tensor of the body that is one place of each, and the axis.
        stacks: tensors of the body that become one place of a result, and the axis.
        line: the order of the positions.
        trips: how many rounds there are in truth, where that is known.
        first: what the first round is given, by tensor of the body.
        backs: adjoints of the slices, in their order.
    """

    site: Site
    states: tuple[State, ...]
    slices: tuple[tuple[str, str, int], ...]
    stacks: tuple[tuple[str, int], ...]
    line: Line
    trips: int | None
    first: Mapping[str, Samples]
    backs: tuple[Back, ...]

    @property
    def graph(self) -> str:
        """Path of the body."""
        return self.site.node.subgraphs[BODY]

    def rounds(self, nodes: int, depth: int) -> int:
        """How many rounds are made at most, for a body of so many nodes in so many others."""
        most = self.site.positions if not depth else (_FEWEST if depth < _DEEPEST else 1)
        most = min(most, max(_FEWEST, _VISITS // max(nodes, 1)))
        return max(min(most, self.trips or most), 1)

    def handed_on(self, known: Mapping[str, Samples]) -> Mapping[str, Samples]:
        """What another round is given, after one was made; empty where it would make the same."""
        given = {s.before: self.line.hand_on(known[s.after], self._first(s, known)) for s in self._fed_back(known)}
        changed = max((_change(known.get(key), samples) for key, samples in given.items()), default=0.0)
        return given if changed > FADED else {}

    def step(self, known: Mapping[str, Samples], steps: Sequence[tuple[Node, Step]], count: int) -> Step:
        """What the node makes, after so many rounds of which these are the steps of the last.

        Raises:
            UnmodelledError: nothing is known of it.
        """
        outputs, edges = list[Samples](), list[Edge]()
        for state in self.states:
            made = samples_of(self.site, state.after)
            if state.filled or not made.size:
                outputs.append(made)
                back: Back = _same
            else:
                outputs.append(self.line.end(made))
                back = self.line.ended
            edges.append(Edge(state.after, Adjoint(back), len(outputs) - 1))
        for key, axis in self.stacks:
            made = samples_of(self.site, key)
            edges.append(Edge(key, Adjoint(_as_before(made)), len(outputs)))
            outputs.append(np.expand_dims(made, axis_in(axis, made.ndim) + 1) if made.size else made)
        if not any(made.size for made in outputs):
            raise UnmodelledError("nothing is known of what its body makes")
        return Step(
            tuple(outputs),
            tuple(edge for edge in edges if edge.source in known),
            rounds=self._rounds(known, steps, count),
        )

    def _rounds(self, known: Mapping[str, Samples], steps: Sequence[tuple[Node, Step]], count: int) -> Rounds:
        entered = [
            (inner, Edge(outside, Adjoint(back)))
            for (outside, inner, _), back in zip(self.slices, self.backs, strict=True)
            if outside in known and inner in known
        ]
        begun, fed_back = list[tuple[str, Edge]](), list[tuple[str, Edge]]()
        handed = {state.before for state in self._fed_back(known)}
        for state in self.states:
            if state.before in known and state.outside in known:
                shape, repeated = known[state.outside].shape[1:], state.before in handed
                edge = Edge(state.outside, Adjoint(self._narrowed(shape, repeated)))
                (begun if repeated and not self.line.along else entered).append((state.before, edge))
            if state.before in handed and state.before in known:
                fed_back.append((state.before, Edge(state.after, Adjoint(self.line.handed_back))))
        results = (*(state.after for state in self.states), *(key for key, _ in self.stacks))
        return Rounds(count, tuple(steps), tuple(dict.fromkeys(results)), tuple(entered), tuple(begun), tuple(fed_back))

    def _narrowed(self, shape: tuple[int, ...], repeated: bool) -> Back:
        return lambda rows: unbroadcast(self.line.begun(rows) if repeated else rows, shape)

    def _fed_back(self, known: Mapping[str, Samples]) -> list[State]:
        """States of which it is known what a round leaves, and that keep their shape."""
        return [
            state
            for state in self.states
            if not state.filled
            and state.after in known
            and (state.before not in self.first or _fits(self.first[state.before], known[state.after]))
        ]

    def _first(self, state: State, known: Mapping[str, Samples]) -> Samples:
        after = known[state.after]
        return np.broadcast_to(self.first.get(state.before, np.zeros((1,) * after.ndim, np.float32)), after.shape)


def body_of(site: Site) -> Body:
    """The body of a node, and what its first round is given.

    Raises:
        UnmodelledError: it does not fit the node, or cannot be represented.
    """
    node = site.node
    takes, returns = node.takes[BODY], node.returns[BODY]
    if node.op_type == "Scan":
        sliced = node.int("num_scan_inputs", 0)
        count = len(node.inputs) - sliced
        first, read = 0, tuple(zip(node.inputs[count:], takes[count:], strict=False))
        if site.model.opset < _SCAN_OPSET:
            raise UnmodelledError(f"it is of an opset before {_SCAN_OPSET}")
    else:
        first, read, count = 2, (), len(node.inputs) - 2
    after = returns[max(first - 1, 0) :]
    if count < 0 or len(takes) < len(node.inputs) or len(after) != len(node.outputs) or len(after) < count:
        raise UnmodelledError(_UNFIT)
    states = tuple(
        State(outside, before, left, _is_filled(site, before, left))
        for outside, before, left in zip(node.inputs[first:], takes[first:], after[:count], strict=False)
    )
    slices = tuple((*pair, axis) for pair, axis in zip(read, _axes(node, "scan_input_axes", len(read)), strict=True))
    made = after[count:]
    stacks = tuple(zip(made, _axes(node, "scan_output_axes", len(made)), strict=True))
    trips = _trips(site, states, slices)
    along = bool(slices or stacks) or any(state.filled for state in states)
    along = along or (node.op_type == "Loop" and bool(site.model.consumers(takes[0])))
    backward = any(node.ints("scan_input_directions"))
    line = _line(site.positions, trips, backward=backward) if along else _apart(site.positions)
    given = {state.before: held for state in states if (held := _held(site, state)) is not None}
    backs: list[Back] = []
    for outside, inner, axis in slices:
        samples = samples_of(site, outside)
        if samples.size:
            given[inner], back = sliced_along(samples, axis)
        else:
            back = _same
        backs.append(back)
    return Body(site, states, slices, stacks, line, trips, given, tuple(backs))


def sliced_along(samples: Samples, axis: int) -> tuple[Samples, Back]:
    """One place along an axis, which goes, and the adjoint: where places are told apart, that of each position."""
    rank = samples.ndim - 1
    if not rank:
        raise UnmodelledError(_SLICED)
    place, positions = axis_in(axis, rank) + 2, positions_of(samples)
    here = np.arange(positions)
    at = here * samples.shape[place - 1] // positions
    moved = np.moveaxis(per_image(samples), place, 2)
    picked = moved[:, here, at].reshape(len(samples), *moved.shape[3:])

    def back(rows: Samples) -> Samples:
        found = np.zeros(moved.shape, np.float32)
        found[:, here, at] = per_image(rows)
        return np.moveaxis(found, 2, place).reshape(samples.shape)

    return picked, back


def _held(site: Site, state: State) -> Samples | None:
    """What the first round is given as a state: zeros where the file tells the shape and no more."""
    if state.filled:
        return None
    held = site.known.get(state.outside)
    kind = site.model.types.get(state.before)
    if held is not None:
        return held
    if kind is None or kind.elem_type not in FLOATS:
        return None
    made = samples_of(site, state.outside)
    if made.size or kind.shape is None:
        return made if made.size else None
    return np.zeros((site.size, *bounded(tuple(length or 1 for length in kind.shape))), np.float32)


def _is_filled(site: Site, before: str, after: str) -> bool:
    model = site.model
    producer = model.producer(after)
    if producer is None or not producer.is_standard:
        return False
    writes = producer.op_type in {"ScatterND", "ScatterElements"} and not model.is_constant(producer.input(1))
    return producer.op_type == "SequenceInsert" or (writes and producer.input(0) == before)


def _axes(node: Node, attribute: str, count: int) -> tuple[int, ...]:
    axes = node.ints(attribute) or (0,) * count
    if len(axes) != count:
        raise UnmodelledError(_UNFIT)
    return axes


def _trips(site: Site, states: Sequence[State], slices: Sequence[tuple[str, str, int]]) -> int | None:
    """How many rounds there are in truth; None where the file does not tell."""
    found: list[int | None] = []
    if site.node.op_type == "Loop":
        most = site.value(site.node.input(0)) if site.node.input(0) else None
        found.append(int(most.ravel()[0]) if most is not None and most.size == 1 and most < _MANY_TRIPS else None)
        filled = [state.outside for state in states if state.filled]
        shapes = [(site.shape(key), 0) for key in (*site.node.outputs[len(states) :], *filled)]
    else:
        shapes = [(site.shape(outside), axis) for outside, _, axis in slices]
    found += [shape[axis] for shape, axis in shapes if shape is not None and -len(shape) <= axis < len(shape)]
    return next((length for length in found if length), None)


def _line(positions: int, trips: int | None, *, backward: bool) -> Line:
    """Steps of a sequence of so many."""
    fitting = min(trips or positions, positions)
    here = np.arange(positions)
    start = here // fitting * fitting
    end = np.minimum(start + fitting, positions) - 1
    start, end, step = (end, start, -1) if backward else (start, end, 1)
    before = np.where(here == start, -1, here - step)
    if trips is None or trips >= 2 * positions:
        before = (here - step) % positions
    return Line(before, end, along=True)


def _apart(positions: int) -> Line:
    here = np.arange(positions)
    return Line(here, here, along=False)


def _fits(first: Samples, after: Samples) -> bool:
    """Whether what a state begins with can be widened to what a round leaves."""
    wide = all(a in {1, b} for a, b in zip(first.shape[1:], after.shape[1:], strict=False))
    return wide and first.ndim == after.ndim


def _change(before: Samples | None, after: Samples) -> float:
    if before is None or before.shape != after.shape:
        return np.inf
    power = float(image_power(after).sum())
    return float(image_power(after - before).sum()) / power if power > 0 else 0.0


def _as_before(made: Samples) -> Back:
    """The adjoint of an axis more."""
    return lambda rows: rows.reshape(made.shape)


def _same(rows: Samples) -> Samples:
    return rows
