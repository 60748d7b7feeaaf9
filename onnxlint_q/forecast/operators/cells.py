"""The cells of LSTM, GRU and RNN: one step forward, and the adjoint of one step.

A step adds what the input gives, `W x + Wb`, and what the state gives, `R h + Rb`, to what goes into its gates. An
error of W arrives at the first of the two, one of R at the second; of the hidden gate of a GRU they are not the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxlint_q.forecast.operators.elementwise import sigmoid, softplus
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Node

Array = npt.NDArray[Any]
Function = Callable[[Array], Array]
State = tuple[Array, ...]
"""The hidden state, `[samples, hidden]`, and of an LSTM the cell state behind it."""

_GIVEN: dict[str, tuple[float, float]] = {
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "affine": (1.0, 0.0),
}
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Gates of a cell, each with its rows of W and R."""


def _function(name: str, alpha: float, beta: float) -> Function | None:
    functions: dict[str, Function] = {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: np.where(x > 0, x, alpha * x),
        "thresholdedrelu": lambda x: np.where(x > alpha, x, 0.0),
        "scaledtanh": lambda x: alpha * np.tanh(beta * x),
        "hardsigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "elu": lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        "softsign": lambda x: x / (1 + np.abs(x)),
        "softplus": softplus,
    }
    return functions.get(name)


def activations(node: Node, directions: int) -> tuple[tuple[Function, ...], ...]:
    """The activation functions of each direction.

    Raises:
        UnmodelledError: there are too few, or one is unknown.
    """
    default = _DEFAULTS[node.op_type]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in node.attributes.get("activations", ())]
    names = [name.lower() for name in names] or [name.lower() for name in default] * directions
    if len(names) < len(default) * directions:
        raise UnmodelledError("it names too few activations")
    # Parameters are listed one after the other for those that have any.
    alphas, betas = ([float(v) for v in node.attributes.get(f"activation_{which}", ())] for which in ("alpha", "beta"))
    clip = node.float("clip", 0.0)
    made: list[Function] = []
    for name in names:
        alpha, beta = _GIVEN.get(name, (0.0, 0.0))
        if name in _GIVEN and alphas:
            alpha = alphas.pop(0)
        if name in {"hardsigmoid", "scaledtanh", "affine"} and betas:
            beta = betas.pop(0)
        function = _function(name, alpha, beta)
        if function is None:
            raise UnmodelledError("one of its activations is unknown")
        # ONNX Runtime clips what goes into the gates, and not the state of a cell that the last function reads.
        gate = node.op_type != "LSTM" or len(made) % len(default) < len(default) - 1
        made.append(_clipped(function, clip) if clip > 0 and gate else function)
    return tuple(tuple(made[d * len(default) : (d + 1) * len(default)]) for d in range(directions))


def _clipped(function: Function, limit: float) -> Function:
    return lambda x: function(np.clip(x, -limit, limit))


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """Rows in front of a step.

    Attributes:
        given: at `W x`, `[samples, gates x hidden]`.
        fed_back: at `R h`; of the hidden gate of a GRU behind its reset gate, where that comes after the product.
        state: at the state before.
    """

    given: Array
    fed_back: Array
    state: State


class Done(Protocol):
    """One step that was made."""

    @property
    def state(self) -> State:
        """The state behind it."""
        ...

    @property
    def read(self) -> tuple[tuple[slice, Array], ...]:
        """What R was multiplied with, by the rows of R."""
        ...

    def pull(self, rows: State) -> Pulled:
        """The adjoint of the step: rows at the state behind it to rows in front of it."""
        ...


class Cell(Protocol):
    """A cell of one direction."""

    def step(self, given: Array, state: State) -> Done:
        """One step from `W x + Wb`, `[samples, gates x hidden]`, and the state before."""
        ...


def _follow(function: Function, x: Array) -> tuple[Array, Array]:
    """Value and slope, by central difference."""
    step = np.float32(1e-3) * np.maximum(np.abs(x), np.float32(1e-2))
    return function(x), (function(x + step) - function(x - step)) / (2 * step)


@dataclass(frozen=True, slots=True, eq=False)
class Rnn:
    """`h' = f(W x + R h + b)`.

    Attributes:
        matrix: R, `[hidden, hidden]`.
        bias: Rb.
    """

    matrix: Array
    bias: Array
    functions: tuple[Function, ...]

    def step(self, given: Array, state: State) -> Done:
        """One step."""
        value, slope = _follow(self.functions[0], given + state[0] @ self.matrix.T + self.bias)
        return _RnnStep(self, state[0], value, slope)


@dataclass(frozen=True, slots=True, eq=False)
class _RnnStep:
    cell: Rnn
    before: Array
    value: Array
    slope: Array

    @property
    def state(self) -> State:
        return (self.value,)

    @property
    def read(self) -> tuple[tuple[slice, Array], ...]:
        return ((slice(None), self.before),)

    def pull(self, rows: State) -> Pulled:
        inner = rows[0] * self.slope
        return Pulled(inner, inner, (inner @ self.cell.matrix,))


@dataclass(frozen=True, slots=True, eq=False)
class Gru:
    """`h' = (1 - z) n + z h` with the update gate z, the reset gate r and the hidden gate n, in this order.

    Attributes:
        matrix: R, `[3 hidden, hidden]`.
        bias: Rb.
        late: the reset gate multiplies the product of the hidden gate, `linear_before_reset`, and not the state in it.
    """

    matrix: Array
    bias: Array
    functions: tuple[Function, ...]
    late: bool

    def step(self, given: Array, state: State) -> Done:
        """One step."""
        (before,) = state
        f, g = self.functions
        hidden = before.shape[1]
        gates, last = slice(2 * hidden), slice(2 * hidden, None)
        z_r, slopes = _follow(f, given[:, gates] + before @ self.matrix[gates].T + self.bias[gates])
        reset = z_r[:, hidden:]
        read = before if self.late else reset * before
        product = read @ self.matrix[last].T + self.bias[last]
        n, slope = _follow(g, given[:, last] + (reset * product if self.late else product))
        return _GruStep(self, before, z_r, slopes, n, slope, read, product)


@dataclass(frozen=True, slots=True, eq=False)
class _GruStep:
    cell: Gru
    before: Array
    gates: Array
    slopes: Array
    n: Array
    slope: Array
    fed: Array
    product: Array

    @property
    def state(self) -> State:
        z = self.gates[:, : self.n.shape[1]]
        return ((1 - z) * self.n + z * self.before,)

    @property
    def read(self) -> tuple[tuple[slice, Array], ...]:
        hidden = self.n.shape[1]
        return ((slice(2 * hidden), self.before), (slice(2 * hidden, None), self.fed))

    def pull(self, rows: State) -> Pulled:
        (row,), hidden, cell = rows, self.n.shape[1], self.cell
        z, reset = self.gates[:, :hidden], self.gates[:, hidden:]
        at_n = row * (1 - z) * self.slope
        at_product = at_n * reset if cell.late else at_n
        at_read = at_product @ cell.matrix[2 * hidden :]
        at_reset = at_n * self.product if cell.late else at_read * self.before
        at_gates = np.concatenate([row * (self.before - self.n), at_reset], axis=1) * self.slopes
        at_state = row * z + at_gates @ cell.matrix[: 2 * hidden] + (at_read if cell.late else at_read * reset)
        given = np.concatenate([at_gates, at_n], axis=1)
        return Pulled(given, np.concatenate([at_gates, at_product], axis=1), (at_state,))


@dataclass(frozen=True, slots=True, eq=False)
class Lstm:
    """`c' = f c + i d`, `h' = o h(c')` with the gates i, o, f and the cell input d, in this order.

    Attributes:
        matrix: R, `[4 hidden, hidden]`.
        bias: Rb.
        peepholes: of i, o and f, `[3, hidden]`.
        coupled: `f = 1 - i`, `input_forget`.
    """

    matrix: Array
    bias: Array
    functions: tuple[Function, ...]
    peepholes: Array
    coupled: bool

    def step(self, given: Array, state: State) -> Done:
        """One step."""
        before, cell = state
        f, g, h = self.functions
        i_, o_, f_, d_ = np.split(given + before @ self.matrix.T + self.bias, 4, axis=1)
        peep_i, peep_o, peep_f = self.peepholes
        i, slope_i = _follow(f, i_ + peep_i * cell)
        forget, slope_f = (1 - i, -slope_i) if self.coupled else _follow(f, f_ + peep_f * cell)
        d, slope_d = _follow(g, d_)
        after = forget * cell + i * d
        o, slope_o = _follow(f, o_ + peep_o * after)
        out, slope_h = _follow(h, after)
        return _LstmStep(
            self, before, cell, after, (i, o, forget, d), (slope_i, slope_o, slope_f, slope_d), out, slope_h
        )


@dataclass(frozen=True, slots=True, eq=False)
class _LstmStep:
    cell: Lstm
    before: Array
    held: Array
    after: Array
    gates: tuple[Array, Array, Array, Array]
    slopes: tuple[Array, Array, Array, Array]
    out: Array
    slope: Array

    @property
    def state(self) -> State:
        return (self.gates[1] * self.out, self.after)

    @property
    def read(self) -> tuple[tuple[slice, Array], ...]:
        return ((slice(None), self.before),)

    def pull(self, rows: State) -> Pulled:
        row, row_cell = rows
        (i, o, forget, d), (slope_i, slope_o, slope_f, slope_d) = self.gates, self.slopes
        peep_i, peep_o, peep_f = self.cell.peepholes
        at_o = row * self.out * slope_o
        at_after = row_cell + row * o * self.slope + at_o * peep_o
        at_i, at_d = at_after * d * slope_i, at_after * i * slope_d
        at_forget = at_after * self.held * slope_f
        if self.cell.coupled:  # the input gate is what forgets
            at_i, at_forget = at_i + at_forget, np.zeros_like(at_forget)
        inner = np.concatenate([at_i, at_o, at_forget, at_d], axis=1)
        at_held = at_after * forget + at_i * peep_i + at_forget * peep_f
        return Pulled(inner, inner, (inner @ self.cell.matrix, at_held))


def cell_of(node: Node, matrix: Array, bias: Array, functions: tuple[Function, ...], peepholes: Array) -> Cell:
    """The cell of one direction of a node."""
    if node.op_type == "GRU":
        return Gru(matrix, bias, functions, node.int("linear_before_reset", 0) != 0)
    if node.op_type == "LSTM":
        return Lstm(matrix, bias, functions, peepholes, node.int("input_forget", 0) != 0)
    return Rnn(matrix, bias, functions)
