"""What each input of a model holds, told by its shape, its type and the operators that read it first.

Names say nothing here. Numbers that choose rows of a table are tokens; a table whose rows change slowly is one of
positions, as neighbouring positions are alike and neighbouring words are not; a table of a few rows tells types of
tokens. A state comes out of the model as it went in. A waveform is one long row that a filter goes over, or that is cut
into pieces. A spectrum has 2^n + 1 frequencies, as a Fourier transform of 2^(n + 1) values has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np
import onnx

from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.inputs.masks import Meeting, meetings
from onnxlint_q.graph import Model, Node, Trait, Value, trace_forward
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.operators import MICROSOFT, Product

_MOVED = Trait.MOVES | Trait.COPIES
# What may be done to a signal in front of the first filter.
_PREPARED = _MOVED | Trait.JOINS | Trait.ADDS | Trait.SCALES | Trait.AVERAGES
_TRANSFORMS = frozenset({"STFT", "DFT"})
_COMPARES = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
# Rows of a table of types of tokens, at most.
_TYPES = 8
_SHORTEST_WAVE = 256
_FREQUENCIES = frozenset(2**n + 1 for n in range(6, 13))
# How much more alike neighbouring rows of a table of positions are than rows far apart (cosines).
_ALIKE = 0.25
_ROWS = 512
_SEQUENCE_LENGTHS = 4
_STATES = (5, 6)


class Kind(Enum):
    """What an input holds, in words that follow `taken for`."""

    IMAGE = "an image"
    TOKENS = "tokens"
    TYPES = "types of tokens"
    POSITIONS = "positions"
    MASK = "a mask"
    LENGTH = "a length"
    CHOICE = "a choice"
    STATE = "a state"
    WAVEFORM = "a waveform"
    SPECTRUM = "a spectrum"
    OTHER = "values of which the file tells nothing"


@dataclass(frozen=True, slots=True)
class Content:
    """What one input holds.

    Attributes:
        kind: that.
        rows: of tokens, how many there are to choose from.
        value: of a choice, the number that the graph compares it with; of a mask, what lets a position count.
        meetings: of a mask, where it meets what it masks.
        output: of a state, the output that holds the next one.
    """

    kind: Kind
    rows: int = 0
    value: float = 0.0
    meetings: tuple[Meeting, ...] = ()
    output: str = ""


def find_contents(model: Model) -> Mapping[str, Content]:
    """What each input holds, by name."""
    tables = {value.name: found for value in model.inputs if (found := _table(model, value)) is not None}
    roles = _roles(model, tables)
    states = _states(model)
    contents: dict[str, Content] = {}
    for value in model.inputs:
        table = tables.get(value.name)
        if table is not None:
            contents[value.name] = Content(roles[value.name], table.rows)
        elif value.name in states:
            contents[value.name] = Content(Kind.STATE, output=states[value.name])
        elif value.type.elem_type in FLOATS:
            contents[value.name] = _of_floats(model, value)
        else:
            contents[value.name] = _of_numbers(model, value)
    return contents


# -- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """What numbers choose from: so many rows, and where these are stored, if they are."""

    rows: int
    key: str = ""


def _table(model: Model, value: Value) -> _Table | None:
    """What an input chooses from; the smallest table where there are several, so that its numbers lie in each."""
    if value.type.elem_type in FLOATS:
        return None
    moved = trace_forward(model, value.name, _MOVED).tensors
    found = (_looked_up(model, node, key) for key in moved for node in model.consumers(key))
    return min((table for table in found if table is not None), key=lambda table: table.rows, default=None)


def _looked_up(model: Model, node: Node, key: str) -> _Table | None:
    """The table that a node looks a tensor up in."""
    tables: Iterable[tuple[int, int]] = ()
    if node.op_type == "Gather" and node.is_standard:
        tables = [(1, 0)]
    elif node.op_type == "EmbedLayerNormalization" and node.domain == MICROSOFT:
        tables = [(0, 2), (1, 4), (8, 3)]
    for place, table in tables:
        stored = node.input(table)
        shape = model.shape(stored) if stored and model.is_constant(stored) else None
        if node.input(place) == key and shape and len(shape) == 2 and shape[0]:
            return _Table(shape[0], stored)
    if node.op_type == "OneHot" and node.input(0) == key:
        depth = model.constant(node.input(1))
        return _Table(int(depth.ravel()[0])) if depth is not None and depth.size else None
    if node.op_type == "Equal" and not any(model.is_constant(name) and not model.shape(name) for name in node.inputs):
        return _compared_with_all(model, node)
    return None


def _compared_with_all(model: Model, node: Node) -> _Table | None:
    """A lookup that is spelt out: 1 where a number equals that of a row, then a product with all rows."""
    for key in trace_forward(model, node.output, _MOVED).tensors:
        for reader in model.consumers(key):
            layer = reader.operator.layer
            shape = model.shape(reader.input(layer.weight)) if layer is not None else None
            if layer is not None and shape and len(shape) >= 2 and reader.input(layer.input) == key:
                rows = shape[1] if layer.product is Product.CONVOLUTION else shape[-2]
                return _Table(rows) if rows else None
    return None


def _roles(model: Model, tables: Mapping[str, _Table]) -> Mapping[str, Kind]:
    """What the numbers are that choose from these tables, by input.

    Where several tables are large, the one whose rows change most slowly is that of the positions.
    """
    largest = max((table.rows for table in tables.values()), default=0)
    roles = {name: Kind.TYPES if table.rows <= _TYPES < largest else Kind.TOKENS for name, table in tables.items()}
    slow = {name: _slowness(model, tables[name]) for name, role in roles.items() if role is Kind.TOKENS}
    if len(slow) > 1:
        slowest = max(slow, key=lambda name: slow[name])
        if slow[slowest] > _ALIKE:
            roles[slowest] = Kind.POSITIONS
    return roles


def _slowness(model: Model, table: _Table) -> float:
    """How much more alike neighbouring rows of a table are than rows far apart, in mean cosines; 0 for a small one."""
    stored = model.constant(table.key) if table.key else None
    if stored is None or len(stored) < 2 * _TYPES:
        return 0.0
    rows = stored[:_ROWS].astype(np.float64)
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12
    half = len(rows) // 2
    near, far = (rows[1:] * rows[:-1]).sum(axis=1), (rows[half:] * rows[: len(rows) - half]).sum(axis=1)
    return float(near.mean() - far.mean())


# -- states ----------------------------------------------------------------------------------------------------------


def _states(model: Model) -> Mapping[str, str]:
    """Inputs that hold a state, with the output that holds the next one; empty where no output does.

    The first input of a model is what it is about, and no state. Pairs that have more lengths in common come first.
    """
    inputs = [value for value in model.inputs[1:] if value.type.elem_type in FLOATS]
    outputs = [value for value in model.outputs if value.type.elem_type in FLOATS]
    pairs = [(_in_common(value, other), value.name, other.name) for value in inputs for other in outputs]
    found: dict[str, str] = {}
    for common, name, output in sorted(pairs, key=lambda pair: -pair[0]):
        if common > 0 and name not in found and output not in found.values():
            found[name] = output
    for value in inputs:
        moved = trace_forward(model, value.name, _MOVED).tensors
        readers = (
            node for key in moved for node in model.consumers(key) for slot in _STATES if node.input(slot) == key
        )
        if any(node.operator.has(Trait.RECURRENT) for node in readers):
            found.setdefault(value.name, "")
    return found


def _in_common(value: Value, other: Value) -> float:
    """How many lengths two shapes are known to share; half a one where all of them may be the same, 0 where not."""
    ours, theirs = value.type.shape, other.type.shape
    if ours is None or theirs is None or len(ours) != len(theirs) or len(ours) < 2:
        return 0.0
    pairs = list(zip(ours, theirs, strict=True))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return 0.0
    # A batch of one is no sign of anything.
    return 0.5 * (len(ours) > 2) + sum(pair[0] == pair[1] and (pair[0] or 0) > 1 for pair in pairs)


# -- signals and settings --------------------------------------------------------------------------------------------


def _of_floats(model: Model, value: Value) -> Content:
    shape = value.taken or tuple(1 if dim is None else dim for dim in value.type.shape or ())
    met = meetings(model, value.name) if len(shape) < 4 else ()
    if met and len(model.inputs) > 1:
        return Content(Kind.MASK, value=1.0, meetings=met)
    if is_image(value.type.shape) and not _FREQUENCIES.intersection(shape):
        return Content(Kind.IMAGE)
    if len(shape) >= 2 and _FREQUENCIES.intersection(shape[1:]):
        return Content(Kind.SPECTRUM)
    if len(shape) in {2, 3} and max(shape) == prod(shape) >= _SHORTEST_WAVE and _is_filtered(model, value.name):
        return Content(Kind.WAVEFORM)
    return Content(Kind.OTHER)


def _is_filtered(model: Model, name: str) -> bool:
    """Whether the first thing that computes with an input is a filter along it, or nothing outside of a body is."""
    for key in trace_forward(model, name, _PREPARED).tensors:
        for node in model.consumers(key):
            layer = node.operator.layer
            if layer is not None:
                return layer.convolves
            if node.op_type in _TRANSFORMS:
                return True
    return not model.consumers(name)


def _of_numbers(model: Model, value: Value) -> Content:
    """Integers and truth values that choose from no table."""
    alone = prod(dim or 1 for dim in value.type.shape or ()) == 1 and len(value.type.shape or ()) < 2
    moved = trace_forward(model, value.name, _MOVED).tensors
    readers = [(key, node) for key in moved for node in model.consumers(key)]
    if alone and value.type.elem_type != onnx.TensorProto.BOOL:
        for key, node in readers:
            constant = _compared_with(model, node, key)
            if constant is not None:
                return Content(Kind.CHOICE, value=constant)
    for key, node in readers:
        reads = node.operator.has(Trait.RECURRENT) and node.input(_SEQUENCE_LENGTHS) == key
        if len(value.type.shape or ()) < 2 and (node.op_type in _COMPARES or reads):
            return Content(Kind.LENGTH)
    return Content(Kind.MASK, value=1.0, meetings=meetings(model, value.name))


def _compared_with(model: Model, node: Node, key: str) -> float | None:
    if node.op_type != "Equal":
        return None
    constant = next((model.constant(name) for name in node.inputs if name != key and model.is_constant(name)), None)
    return float(constant.ravel()[0]) if constant is not None and constant.size == 1 else None


def told(contents: Mapping[str, Content]) -> Iterator[str]:
    """What inputs are taken for, in words, those of one kind together; images are what is expected."""
    kinds: dict[Kind, list[str]] = {}
    for name, content in contents.items():
        if content.kind is not Kind.IMAGE:
            kinds.setdefault(content.kind, []).append(name)
    for kind, names in kinds.items():
        yield f"{_listed(names)} taken for {kind.value}"


def _listed(names: Sequence[str]) -> str:
    return f"input{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
