"""LSTM, GRU and RNN: the cell is run along the sequence, and the adjoint back along it.

Where the steps of a sequence are told apart, or there is only one, every sample is a sequence of its own. Where they
are alike, the positions of an image are its steps. A long sequence goes through them twice and the second pass counts:
by then a state has forgotten where it began. A short one begins anew as often as its length fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.forecast.operators.cells import GATES, Cell, Done, State, activations, cell_of
from onnxlint_q.forecast.population import IMAGES, POSITIONS, SIZE, Samples, finite
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, ByImage, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError

Array = npt.NDArray[Any]
# Values of the gates of all steps together, 64 MB in float32.
_LARGEST = 1 << 24
_SEQUENCE, _BATCH = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """How tensors are read as steps, and written back.

    Attributes:
        places: elements of the batch that are told apart.
        steps: of the sequence that are; 1 where the steps are alike.
        segments: sequences that the positions of an image hold; empty where every sample is a sequence of its own.
        twice: the steps are run through twice, and the second time counts.
        batch_first: `layout` is 1.
    """

    places: int
    steps: int
    segments: tuple[tuple[int, ...], ...]
    twice: bool
    batch_first: bool

    @property
    def runs(self) -> tuple[tuple[int, ...], ...]:
        """Steps that follow each other, of each sequence."""
        return self.segments or (tuple(range(self.steps)),)

    def read(self, samples: Samples, width: int) -> Array:
        """The input as `[steps, sequences, width]`."""
        values = samples if not self.batch_first else samples.swapaxes(1, 2)
        values = np.broadcast_to(values, (SIZE, self.steps, self.places, width))
        if self.segments:
            values = values.reshape(IMAGES, POSITIONS, self.places, width)
        return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1, width)

    def write(self, values: Array, shape: tuple[int, ...]) -> Samples:
        """The adjoint of `read`: rows at each step as rows of the input."""
        split = np.moveaxis(values.reshape(len(values), -1, self.places, values.shape[-1]), 0, 1)
        rows = split.reshape(SIZE, self.steps, self.places, -1)
        if self.batch_first:
            rows = rows.swapaxes(1, 2)
        for axis, length in enumerate(shape, start=1):
            if length == 1 != rows.shape[axis]:
                rows = rows.sum(axis=axis, keepdims=True)
        return np.asarray(rows, np.float32)

    def results(self, values: Array) -> Samples:
        """`[steps, sequences, directions, hidden]` as samples of Y."""
        split = np.moveaxis(values.reshape(len(values), -1, self.places, *values.shape[2:]), 0, 1)
        whole = split.reshape(SIZE, self.steps, self.places, *values.shape[2:])
        return whole.swapaxes(1, 2) if self.batch_first else whole.swapaxes(2, 3)

    def result_rows(self, rows: Samples) -> Array:
        """Rows of Y by step."""
        rows = rows.swapaxes(1, 2) if self.batch_first else rows.swapaxes(2, 3)
        first = (IMAGES, POSITIONS) if self.segments else (SIZE, self.steps)
        split = rows.reshape(*first, self.places, *rows.shape[3:])
        return np.moveaxis(split, 1, 0).reshape(first[1], -1, *rows.shape[3:])

    def states(self, values: Array) -> Samples:
        """States `[segments, sequences, directions, hidden]` as samples of Y_h; positions of a segment share one."""
        split = np.moveaxis(values.reshape(len(values), -1, self.places, *values.shape[2:]), 0, 1)
        if self.segments:
            split = split[:, [number for number, run in enumerate(self.segments) for _ in run]]
        whole = split.reshape(SIZE, self.places, *values.shape[2:])
        return whole if self.batch_first else whole.swapaxes(1, 2)

    def state_rows(self, rows: Samples) -> Array:
        """The adjoint of `states`."""
        rows = rows if self.batch_first else rows.swapaxes(1, 2)
        if not self.segments:
            return rows.reshape(1, -1, *rows.shape[2:])
        split = rows.reshape(IMAGES, POSITIONS, self.places, *rows.shape[2:])
        sums = [split[:, list(run)].sum(axis=1) for run in self.segments]
        return np.stack(sums).reshape(len(sums), -1, *rows.shape[2:])

    def first_states(self, samples: Samples, hidden: int, directions: int) -> Array:
        """A state that is given: `[segments, sequences, directions, hidden]`, that of a segment's first position."""
        values = samples if self.batch_first else samples.swapaxes(1, 2)
        values = np.broadcast_to(values, (SIZE, self.places, directions, hidden))
        if not self.segments:
            return values.reshape(1, -1, directions, hidden)
        split = values.reshape(IMAGES, POSITIONS, self.places, directions, hidden)
        firsts = split[:, [run[0] for run in self.segments]]
        return np.moveaxis(firsts, 1, 0).reshape(len(self.segments), -1, directions, hidden)

    def first_state_rows(self, values: Array, shape: tuple[int, ...]) -> Samples:
        """The adjoint of `first_states`."""
        split = np.moveaxis(values.reshape(len(values), -1, self.places, *values.shape[2:]), 0, 1)
        if self.segments:
            whole = np.zeros((IMAGES, POSITIONS, *split.shape[2:]), np.float32)
            whole[:, [run[0] for run in self.segments]] = split
            split = whole
        rows = split.reshape(SIZE, *split.shape[2:])
        rows = rows if self.batch_first else rows.swapaxes(1, 2)
        for axis, length in enumerate(shape, start=1):
            if length == 1 != rows.shape[axis]:
                rows = rows.sum(axis=axis, keepdims=True)
        return np.asarray(rows, np.float32)


def _frame(site: Site, samples: Samples) -> Frame:
    batch_first = site.node.int("layout", 0) == 1
    sequence, batch = (_BATCH, _SEQUENCE) if batch_first else (_SEQUENCE, _BATCH)
    steps = samples.shape[1 + sequence]
    # A state may tell elements of the batch apart that the sequence does not.
    states = [given for slot in (5, 6) if (given := site.samples(slot)) is not None and given.ndim == samples.ndim]
    counts = {samples.shape[1 + batch], *(given.shape[1 if batch_first else 2] for given in states)}
    places = max(counts)
    if not counts <= {1, places}:
        raise UnmodelledError("the state that it is given does not fit")
    shape = site.shape(site.node.input(0))
    length = shape[sequence] if shape is not None and len(shape) == 3 else None
    if steps > 1 or length == 1:
        return Frame(places, steps, (), False, batch_first)
    fitting = min(length or POSITIONS, POSITIONS)
    starts = range(0, POSITIONS, fitting)
    segments = tuple(tuple(range(start, min(start + fitting, POSITIONS))) for start in starts)
    return Frame(places, 1, segments, length is None or length >= 2 * POSITIONS, batch_first)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """One step of one direction, and where it stands.

    Attributes:
        at: number of the step in the sequence.
        segment: number of the sequence.
        counts: its result is one of the node's.
    """

    at: int
    segment: int
    counts: bool
    done: Done


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows in front of all steps of one direction.

    Attributes:
        given, fed_back: by step as it was made, see `cells.Pulled`.
        state: at the first states, by segment.
    """

    given: tuple[Array, ...]
    fed_back: tuple[Array, ...]
    state: tuple[State, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A recurrent operator that was run on the population.

    Attributes:
        frame: how its tensors are read.
        inputs: `[steps, sequences, inputs]`.
        weights: W, `[directions, gates x hidden, inputs]`.
        made: the steps of each direction, in the order in which they were made.
    """

    frame: Frame
    inputs: Array
    weights: Array
    made: tuple[tuple[_Made, ...], ...]

    def outputs(self) -> tuple[Samples, ...]:
        """Samples of Y, Y_h and of an LSTM Y_c."""
        hidden = self.made[0][0].done.state[0].shape[1]
        directions, sequences = len(self.made), self.inputs.shape[1]
        y = np.zeros((len(self.inputs), sequences, directions, hidden), np.float32)
        states = np.zeros((len(self.made[0][0].done.state), len(self.frame.runs), *y.shape[1:]), np.float32)
        for direction, made in enumerate(self.made):
            for one in made:
                if one.counts:
                    y[one.at, :, direction] = one.done.state[0]
                    states[:, one.segment, :, direction] = one.done.state  # the last one stays
        return tuple(map(finite, (self.frame.results(y), *map(self.frame.states, states))))

    def pull(self, direction: int, y: Array | None, states: Mapping[int, Array]) -> _Rows:
        """Back along the sequence, from rows at the results.

        Args:
            direction: which.
            y: by step, of all directions; None for none.
            states: of Y_h (0) and Y_c (1), by segment and of all directions.
        """
        made = self.made[direction]
        kinds = len(made[0].done.state)
        given, fed_back, first = [], [], []
        rows: list[Array] = []
        segment = -1
        for number in range(len(made) - 1, -1, -1):
            one = made[number]
            if one.segment != segment:
                segment = one.segment
                nothing = np.zeros_like(one.done.state[0])
                rows = [states[k][segment, :, direction] if k in states else nothing for k in range(kinds)]
            if one.counts and y is not None:
                rows[0] = rows[0] + y[one.at, :, direction]
            pulled = one.done.pull(tuple(rows))
            rows = list(pulled.state)
            given.append(pulled.given)
            fed_back.append(pulled.fed_back)
            if number == 0 or made[number - 1].segment != segment:
                first.append(pulled.state)
        return _Rows(tuple(given[::-1]), tuple(fed_back[::-1]), tuple(first[::-1]))

    def at_input(self, direction: int, rows: _Rows) -> Array:
        """Rows at the input, `[steps, sequences, inputs]`."""
        return np.asarray(self._at_gates(direction, rows) @ self.weights[direction], np.float32)

    def _at_gates(self, direction: int, rows: _Rows) -> Array:
        """Rows at `W x`, `[steps, sequences, gates x hidden]`: a step may have been made twice."""
        total = np.zeros((*self.inputs.shape[:2], self.weights.shape[1]), np.float32)
        for one, given in zip(self.made[direction], rows.given, strict=True):
            total[one.at] += given
        return total

    def pull_all(self, costs: Sequence[OutputCost | None]) -> tuple[_Rows, ...]:
        """Back from all outputs together, by direction."""
        y = self.frame.result_rows(costs[0].rows) if costs and costs[0] is not None else None
        states = {k: self.frame.state_rows(cost.rows) for k, cost in enumerate(costs[1:]) if cost is not None}
        return tuple(self.pull(direction, y, states) for direction in range(len(self.made)))

    def weight_noise(self, errors: Mapping[str, Array], costs: Sequence[OutputCost | None]) -> Mapping[str, ByImage]:
        """Output noise by image for the error `[channels, values]` of each weight, by its name.

        `costs` are those of the outputs.
        """
        pulled = self.pull_all(costs)
        directions = {name: error.reshape(len(self.made), -1, error.shape[1]) for name, error in errors.items()}
        return {name: self._noise(name, error, pulled) for name, error in directions.items()}

    def _noise(self, operand: str, error: Array, pulled: Sequence[_Rows]) -> ByImage:
        sums = np.zeros(self.inputs.shape[1], np.float64)
        for direction, (made, own, rows) in enumerate(zip(self.made, error, pulled, strict=True)):
            if operand == "W":
                sums += np.einsum("tsi,tsi->s", self._at_gates(direction, rows) @ own, self.inputs)
                continue
            for part, (gates, _) in enumerate(made[0].done.read):
                values = np.stack([one.done.read[part][1] for one in made])
                sums += np.einsum("tsh,tsh->s", np.stack(rows.fed_back)[:, :, gates] @ own[gates], values)
        return np.asarray(np.square(sums.reshape(IMAGES, -1).sum(axis=1)))


def recurrent(site: Site) -> Step:
    """The cell along the sequence."""
    node, samples, weights, feedback = site.node, site.varying(), site.constant(1), site.constant(2)
    if weights is None or feedback is None:
        raise UnmodelledError("its weights are computed from the input")
    if samples.ndim != 4 or weights.ndim != 3 or feedback.ndim != 3:
        raise UnmodelledError("what it reads is no sequence")
    directions, rows, inputs = weights.shape
    hidden = feedback.shape[2]
    if feedback.shape[:2] != (directions, rows) or not weights.size:
        raise UnmodelledError("its weights do not fit together")
    if rows != GATES[node.op_type] * hidden or directions != (2 if _direction(node.text("direction", "")) == 0 else 1):
        raise UnmodelledError("its weights do not fit together")
    if samples.shape[3] not in {1, inputs}:
        raise UnmodelledError(f"it reads {inputs} values a step, its input has {samples.shape[3]}")
    frame = _frame(site, samples)
    values = frame.read(samples, inputs)
    if values.shape[0] * values.shape[1] * rows * directions > _LARGEST:
        raise UnmodelledError("its sequence is too long to represent")
    bias = _constant(site, 3, (directions, 2 * rows))
    peepholes = _constant(site, 7, (directions, 3 * hidden)).reshape(directions, 3, hidden)
    functions = activations(node, directions)
    firsts = [_first(site, slot, frame, hidden, directions, values.shape[1]) for slot in (5, 6)[: _kinds(node.op_type)]]
    made = []
    for d in range(directions):
        cell = cell_of(node, feedback[d], bias[d, rows:], functions[d], peepholes[d])
        backward = _direction(node.text("direction", "")) < 0 or d == 1
        given = values @ weights[d].T + bias[d, :rows]
        made.append(_run(cell, given, frame, [first[:, :, d] for first in firsts], backward=backward))
    run = Run(frame, values, weights, tuple(made))
    return Step(run.outputs(), tuple(_edges(site, run, samples, hidden)), reading=run)


def _direction(name: str) -> int:
    """Forward 1, backward -1, both 0."""
    return {"reverse": -1, "bidirectional": 0}.get(name, 1)


def _kinds(op_type: str) -> int:
    """How many states the cell has."""
    return 2 if op_type == "LSTM" else 1


def _constant(site: Site, slot: int, shape: tuple[int, ...]) -> Array:
    """A constant input, zeros where there is none."""
    value = site.constant(slot)
    if value is None:
        if site.node.input(slot):
            raise UnmodelledError("its bias is not constant")
        return np.zeros(shape, np.float32)
    if value.shape != shape:
        raise UnmodelledError("its weights do not fit together")
    return value


def _first(site: Site, slot: int, frame: Frame, hidden: int, directions: int, sequences: int) -> Array:
    """The state before the first step, `[segments, sequences, directions, hidden]`."""
    key, samples = site.node.input(slot), site.samples(slot)
    if samples is None:
        value = site.constant(slot) if key else None
        if value is None or value.ndim != 3 or value.size == 0:
            return np.zeros((len(frame.runs), sequences, directions, hidden), np.float32)
        batch = 0 if frame.batch_first else 1
        value = value.take(np.arange(frame.places) * value.shape[batch] // frame.places, axis=batch)
        samples = np.broadcast_to(value, (SIZE, *value.shape)).astype(np.float32)
    if samples.ndim != 4 or samples.shape[3] not in {1, hidden}:
        raise UnmodelledError("the state that it is given does not fit")
    return frame.first_states(samples, hidden, directions)


def _run(cell: Cell, given: Array, frame: Frame, firsts: Sequence[Array], *, backward: bool) -> tuple[_Made, ...]:
    made: list[_Made] = []
    for segment, run in enumerate(frame.runs):
        state: State = tuple(np.asarray(first[segment], np.float32) for first in firsts)
        order = run[::-1] if backward else run
        for counts in (False, True) if frame.twice else (True,):
            for at in order:
                done = cell.step(given[at], state)
                state = done.state
                made.append(_Made(at, segment, counts, done))
    return tuple(made)


def _edges(site: Site, run: Run, samples: Samples, hidden: int) -> list[Edge]:
    """From the input and the first states to each output that is named."""
    node, frame, found = site.node, run.frame, list[Edge]()
    directions = range(len(run.made))

    def pulled(output: int, rows: Samples) -> list[_Rows]:
        if output == 0:
            return [run.pull(d, frame.result_rows(rows), {}) for d in directions]
        return [run.pull(d, None, {output - 1: frame.state_rows(rows)}) for d in directions]

    def to_input(output: int) -> Adjoint:
        return Adjoint(
            lambda rows: frame.write(
                np.sum([run.at_input(d, own) for d, own in enumerate(pulled(output, rows))], axis=0), samples.shape[1:]
            )
        )

    def to_state(output: int, kind: int, shape: tuple[int, ...]) -> Adjoint:
        def apply(rows: Samples) -> Samples:
            own = pulled(output, rows)
            states = [np.stack([state[kind] for state in one.state]) for one in own]
            return frame.first_state_rows(np.stack(states, axis=2), shape)

        return Adjoint(apply)

    for output, key in enumerate(node.outputs):
        if not key:
            continue
        found.append(Edge(node.input(0), to_input(output), output))
        for kind, slot in enumerate((5, 6)[: _kinds(node.op_type)]):
            given = site.samples(slot)
            if given is not None:
                found.append(Edge(node.input(slot), to_state(output, kind, given.shape[1:]), output))
    return found


RULES: Mapping[str, TransferRule] = {"LSTM": recurrent, "GRU": recurrent, "RNN": recurrent}
