"""Masks that rule positions out, and which axes of the outputs hold these positions.

A network that attends adds a number far below every score where a position is padding, or puts one in its place, in
front of Softmax. What its outputs hold at such a position nobody uses. The mask is found by what it does, so it does
not matter what its input is called or which of its values means padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph import Model, Node, Trait, trace_back

# Between a mask and the Softmax that it is for.
_ON_THE_WAY = Trait.COPIES | Trait.MOVES | Trait.SCALES | Trait.ADDS | Trait.CHOOSES
# What a mask does not pass on its way from the inputs.
_COMPUTES = Trait.SCORES | Trait.NORMALISES | Trait.RECURRENT
# Softmax makes zero of a score this far below the others.
_FAR_BELOW = -50.0
# Exporters compute a mask anew for each of a few blocks; beyond that it is the same one again.
_MOST = 4


class Rules(Enum):
    """How a mask says that a position does not count."""

    FAR_BELOW = "a number far below every score is added"
    TRUE = "where it is true"
    FALSE = "where it is false"


@dataclass(frozen=True, slots=True)
class PaddingMask:
    """A tensor that depends on the inputs alone and rules positions out; its last axis goes over the positions.

    Attributes:
        tensor: its name.
        rules: how it says so.
        inputs: what it is computed from.
        axes: of each output that has these positions, by its name, the axes that go over them.
    """

    tensor: str
    rules: Rules
    inputs: tuple[str, ...]
    axes: Mapping[str, tuple[int, ...]]

    def kept(self, mask: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
        """Which positions count in any row of the mask, `[batch, positions]`, or `[1, positions]` for all alike."""
        if self.rules is Rules.FAR_BELOW:
            counts = np.asarray(mask, np.float64) > _FAR_BELOW
        else:
            counts = np.asarray(mask).astype(bool) != (self.rules is Rules.TRUE)
        rows = counts.reshape(counts.shape[0] if counts.ndim > 1 else 1, -1, counts.shape[-1])
        return np.asarray(rows.any(axis=1))


def find_padding(model: Model) -> tuple[PaddingMask, ...]:
    """A few of `find_masks`, those whose positions an output has."""
    return tuple(mask for mask in find_masks(model) if mask.axes)[:_MOST]


def find_masks(model: Model) -> tuple[PaddingMask, ...]:
    """The masks in front of the Softmaxes of the main graph, those that are computed alike once."""
    found: dict[str, PaddingMask] = {}
    for softmax in (node for node in model.nodes if node.operator.has(Trait.SCORES)):
        for tensor, rules, inputs in _masks(model, softmax.input(0)):
            if tensor not in found:
                found[tensor] = PaddingMask(tensor, rules, inputs, _axes(model, inputs))
    return tuple(found.values())


def _masks(model: Model, scores: str) -> Iterator[tuple[str, Rules, tuple[str, ...]]]:
    """Tensor, rule, and the inputs that it is computed from."""
    for key in trace_back(model, scores, _ON_THE_WAY, model.constants).tensors:
        node = model.producer(key)
        if node is None:
            continue
        if node.operator.has(Trait.ADDS) and len(node.inputs) == 2 and not _inputs_alone(model, key):
            for operand in node.inputs:
                inputs = _inputs_alone(model, operand)
                if inputs:
                    yield operand, Rules.FAR_BELOW, inputs
        elif node.op_type == "Where":
            inputs = _inputs_alone(model, node.input(0))
            low = [_is_far_below(model, node.input(slot)) for slot in (1, 2)]
            if inputs and low[0] != low[1]:
                yield node.input(0), Rules.TRUE if low[0] else Rules.FALSE, inputs


def _is_far_below(model: Model, key: str) -> bool:
    value = model.constant(key)
    return value is not None and value.size > 0 and value.dtype.kind == "f" and bool((value <= _FAR_BELOW).all())


def _inputs_alone(model: Model, tensor: str) -> tuple[str, ...]:
    """The inputs of the model that a tensor is computed from where no layer, sum or Softmax is on the way."""
    given = {value.name for value in model.inputs}

    def through(node: Node) -> tuple[str, ...]:
        computes = node.operator.layer is not None or node.operator.has(_COMPUTES) or node.subgraphs
        return () if computes else tuple(key for key in node.inputs if key and not model.is_constant(key))

    ends = trace_back(model, tensor, through).ends
    return tuple(ends) if ends and all(key in given for key in ends) else ()


def _axes(model: Model, inputs: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """By output, the axes whose length is that of axis 1 of these inputs: of the same name, or of the same number."""
    lengths = {length for value in model.proto.graph.input if value.name in inputs for length in _lengths(value)[1:2]}
    found: dict[str, tuple[int, ...]] = {}
    for value in model.proto.graph.output:
        # A plain number may be a width as well, so it counts only where positions usually are.
        axes = [
            axis
            for axis, length in enumerate(_lengths(value))
            if axis > 0 and length and length in lengths and (isinstance(length, str) or axis == 1)
        ]
        if axes:
            found[value.name] = tuple(axes)
    return found


def _lengths(value: onnx.ValueInfoProto) -> list[str | int]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "") for dim in dims]
