"""Operators applied to arrays: pure functions, checked before anything is computed.

A node says what is to be done, its operands are given, and the result is an array; what cannot be told, is no valid
use of the operator, or would be larger than it may be, raises `EvaluationError` with the reason. Nothing is computed
before its size is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from onnxlint_q.graph.codes.trained import is_quant, quantised
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import MICROSOFT
from onnxlint_q.graph.tensors import MOST_AXES, Array, is_external

# numpy has no arrays of more places, where it counts an axis without elements as one of length 1.
_MOST_PLACES = 1 << 48
# What takes a tenth of a second.
_MOST_PRODUCTS = 1 << 30


class EvaluationError(ValueError):
    """An operator cannot be applied to these operands; the message says why."""


def is_evaluated(node: Node) -> bool:
    """Whether `evaluate` knows the operator. ONNX Runtime's own DequantizeLinear takes 16-bit codes, too."""
    known = node.is_standard or (node.domain == MICROSOFT and node.op_type == "DequantizeLinear")
    return (known and node.op_type in _OPERATIONS) or is_quant(node)


def evaluate(node: Node, operands: Sequence[Array | None], most: int) -> Array:
    """The first result of `node`, whose operands are given by position; it may be a view.

    Args:
        node: an operator that `is_evaluated`.
        operands: None where one is omitted.
        most: elements that the result may have.

    Raises:
        EvaluationError: the operator does not fit the operands, or the result would be larger than that.
    """
    if not is_evaluated(node):
        raise EvaluationError(f"{node.qualified_type} is not evaluated")
    # Values that pass the range of their type become what they become.
    with np.errstate(all="ignore"):
        operation = _quant if is_quant(node) else _OPERATIONS[node.op_type]
        return np.asarray(operation(_Call(node, operands, most)))


class _Call:
    """A node with its operands, and the checks that operators share."""

    def __init__(self, node: Node, operands: Sequence[Array | None], most: int) -> None:
        self.node = node
        self.operands = operands
        self.most = most

    def has(self, index: int) -> bool:
        return index < len(self.operands) and self.operands[index] is not None

    def array(self, index: int = 0) -> Array:
        """An operand that must be there."""
        value = self.operands[index] if index < len(self.operands) else None
        if value is None:
            raise EvaluationError(f"it has no input {index}")
        return value

    def numbers(self, index: int, kinds: str = "iuf") -> Array:
        """An operand of numbers of these numpy kinds."""
        value = self.array(index)
        if value.dtype.kind not in kinds:
            raise EvaluationError(f"input {index} is of type {value.dtype}")
        return value

    def integers(self, index: int, attribute: str) -> tuple[int, ...] | None:
        """Integers that newer opsets take from an input and older ones from an attribute; None if there are none."""
        if self.has(index):
            return tuple(int(value) for value in self.numbers(index, "iu").ravel())
        listed = self.node.attributes.get(attribute)
        if listed is None:
            return None
        if not isinstance(listed, (list, tuple)) or not all(isinstance(value, int) for value in listed):
            raise EvaluationError(f"its attribute {attribute!r} is no list of integers")
        return tuple(listed)

    def needed(self, index: int, attribute: str) -> tuple[int, ...]:
        """The same where they must be there."""
        found = self.integers(index, attribute)
        if found is None:
            raise EvaluationError(f"it names no {attribute}")
        return found

    def room(self, shape: Sequence[int]) -> tuple[int, ...]:
        """`shape`, if the result may have it."""
        if len(shape) > MOST_AXES:
            raise EvaluationError(f"the result would have {len(shape)} axes")
        if any(length < 0 for length in shape):
            raise EvaluationError(f"the result would have the shape {list(shape)}")
        if math.prod(length or 1 for length in shape) > _MOST_PLACES:
            raise EvaluationError(f"the result would have the shape {list(shape)}")
        if math.prod(shape) > self.most:
            raise EvaluationError(f"the result would have {math.prod(shape)} elements, {self.most} are allowed")
        return tuple(shape)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise EvaluationError(f"axis {axis} is outside a tensor of rank {rank}")
    return axis % rank


def _distinct(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    found = tuple(_axis(axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise EvaluationError(f"the axes {list(axes)} are not distinct")
    return found


# -- copies and moves ------------------------------------------------------------------------------------------------


def _cast(call: _Call) -> Array:
    data, target = call.array(), call.node.int("to", 0)
    if target == onnx.TensorProto.STRING or data.dtype.kind in "OSU":
        raise EvaluationError("strings are not cast")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(target)
    except KeyError as error:
        raise EvaluationError(f"it casts to the unknown element type {target}") from error
    plain = data.real if np.iscomplexobj(data) and not np.issubdtype(dtype, np.complexfloating) else data
    return np.asarray(plain.astype(dtype))


def _transpose(call: _Call) -> Array:
    data = call.array()
    perm = call.node.ints("perm") or tuple(reversed(range(data.ndim)))
    if sorted(perm) != list(range(data.ndim)):
        raise EvaluationError(f"perm {list(perm)} does not fit rank {data.ndim}")
    return np.transpose(data, perm)


def _reshape(call: _Call) -> Array:
    data, wanted = call.array(), call.needed(1, "shape")
    if not call.node.int("allowzero", 0):
        if any(length == 0 and axis >= data.ndim for axis, length in enumerate(wanted)):
            raise EvaluationError(f"{list(wanted)} keeps an axis that {list(data.shape)} does not have")
        wanted = tuple(data.shape[axis] if length == 0 else length for axis, length in enumerate(wanted))
    known = math.prod(length for length in wanted if length != -1)
    if wanted.count(-1) > 1 or (-1 in wanted and (not known or data.size % known)):
        raise EvaluationError(f"{list(data.shape)} cannot become {list(wanted)}")
    shape = tuple(data.size // known if length == -1 else length for length in wanted)
    if math.prod(shape) != data.size:
        raise EvaluationError(f"{list(data.shape)} cannot become {list(wanted)}")
    return data.reshape(call.room(shape))


def _flatten(call: _Call) -> Array:
    data, axis = call.array(), call.node.int("axis", 1)
    if not -data.ndim <= axis <= data.ndim:
        raise EvaluationError(f"axis {axis} is outside a tensor of rank {data.ndim}")
    axis += data.ndim if axis < 0 else 0
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _squeeze(call: _Call) -> Array:
    data, listed = call.array(), call.integers(1, "axes")
    axes = [axis for axis, length in enumerate(data.shape) if length == 1] if listed is None else listed
    gone = _distinct(axes, data.ndim)
    if any(data.shape[axis] != 1 for axis in gone):
        raise EvaluationError(f"the axes {list(axes)} of {list(data.shape)} are not all of length 1")
    return data.reshape([length for axis, length in enumerate(data.shape) if axis not in gone])


def _unsqueeze(call: _Call) -> Array:
    data, axes = call.array(), call.needed(1, "axes")
    rank = data.ndim + len(axes)
    if rank > MOST_AXES:
        raise EvaluationError(f"the result would have {rank} axes")
    return np.expand_dims(data, _distinct(axes, rank))


def _slice(call: _Call) -> Array:
    data, starts, ends = call.array(), call.needed(1, "starts"), call.needed(2, "ends")
    listed, steps = call.integers(3, "axes"), call.integers(4, "steps") or (1,) * len(starts)
    axes = _distinct(range(len(starts)) if listed is None else listed, data.ndim)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise EvaluationError(f"it slices {len(axes)} axes from {starts} to {ends} in steps of {steps}")
    window = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        window[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return np.asarray(data[tuple(window)])


def _gather(call: _Call) -> Array:
    data, index = call.array(), call.numbers(1, "iu")
    axis = _axis(call.node.int("axis", 0), data.ndim)
    length = data.shape[axis]
    if index.size and not (-length <= int(index.min()) and int(index.max()) < length):
        raise EvaluationError(f"an index is outside an axis of length {length}")
    call.room((*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))
    return np.take(data, index.astype(np.int64), axis=axis)


def _concat(call: _Call) -> Array:
    parts = [call.array(index) for index in range(len(call.operands))]
    axis = _axis(call.node.int("axis", 0), parts[0].ndim) if parts else 0
    frames = {(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
    if len(frames) != 1 or len({part.ndim for part in parts}) != 1:
        raise EvaluationError(f"{[list(part.shape) for part in parts]} do not fit beside each other")
    call.room((sum(part.shape[axis] for part in parts), *frames.pop()))
    return np.concatenate(parts, axis=axis)


def _expand(call: _Call) -> Array:
    data, wanted = call.array(), call.needed(1, "shape")
    return np.broadcast_to(data, call.room(_broadcast(call, data.shape, wanted)))


def _tile(call: _Call) -> Array:
    data, repeats = call.array(), call.needed(1, "repeats")
    if len(repeats) != data.ndim:
        raise EvaluationError(f"it repeats {len(repeats)} axes of a tensor of rank {data.ndim}")
    call.room([length * repeat for length, repeat in zip(data.shape, repeats, strict=True)])
    return np.tile(data, repeats)


def _triangle(call: _Call) -> Array:
    data = call.array()
    if data.ndim < 2:
        raise EvaluationError(f"it takes a triangle of a tensor of rank {data.ndim}")
    offset = call.needed(1, "k") if call.has(1) else (0,)
    if len(offset) != 1:
        raise EvaluationError(f"it names {len(offset)} diagonals")
    keep = np.triu if call.node.int("upper", 1) else np.tril
    return keep(data, max(-(1 << 31), min(offset[0], 1 << 31)))


# -- made of sizes ---------------------------------------------------------------------------------------------------


def _filled(call: _Call) -> Array:
    shape, value = call.room(call.needed(0, "")), call.node.attributes.get("value")
    if value is None:
        return np.zeros(shape, np.float32)
    if not isinstance(value, onnx.TensorProto) or is_external(value) or math.prod(value.dims) != 1:
        raise EvaluationError("its value is not one number that the node itself holds")
    try:
        fill = onnx.numpy_helper.to_array(value)
    except (ValueError, TypeError, KeyError) as error:  # whatever numpy and onnx say of bytes that do not fit a type
        raise EvaluationError(f"its value cannot be read ({error})") from error
    return np.full(shape, fill.ravel()[0])


def _range(call: _Call) -> Array:
    ends = [call.numbers(index) for index in range(3)]
    if any(end.size != 1 for end in ends):
        raise EvaluationError("start, limit and delta are not one number each")
    start, limit, delta = (end.item() for end in ends)
    if not all(math.isfinite(end) for end in (start, limit, delta)) or delta == 0:
        raise EvaluationError(f"there is no range from {start} to {limit} in steps of {delta}")
    whole = all(isinstance(end, int) for end in (start, limit, delta))
    steps = -((start - limit) // delta) if whole else (limit - start) / delta
    if not math.isfinite(steps):
        raise EvaluationError(f"there is no range from {start} to {limit} in steps of {delta}")
    (count,) = call.room((max(0, math.ceil(steps)),))
    return np.asarray(start + np.arange(count) * delta, ends[0].dtype)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def _broadcast(call: _Call, *shapes: Sequence[int]) -> tuple[int, ...]:
    try:
        return call.room(np.broadcast_shapes(*(call.room(shape) for shape in shapes)))
    except EvaluationError:
        raise
    except ValueError as error:
        raise EvaluationError(f"the shapes {[list(shape) for shape in shapes]} do not fit") from error


Function = Callable[..., Array]


def _combined(function: Function, kinds: str = "iuf", operands: int | None = 2) -> Callable[[_Call], Array]:
    """A function of two operands, broadcast; with `operands` None, of any number from left to right."""

    def apply(call: _Call) -> Array:
        if not call.operands or (operands is not None and len(call.operands) != operands):
            raise EvaluationError(f"it has {len(call.operands)} inputs")
        values = [call.numbers(index, kinds) for index in range(len(call.operands))]
        _broadcast(call, *(value.shape for value in values))
        result = values[0]
        for value in values[1:]:
            result = function(result, value)
        return result

    return apply


def _mapped(function: Function, kinds: str) -> Callable[[_Call], Array]:
    """A function of one operand."""

    def apply(call: _Call) -> Array:
        if len(call.operands) != 1:
            raise EvaluationError(f"it has {len(call.operands)} inputs")
        return function(call.numbers(0, kinds))

    return apply


def _quotient(a: Array, b: Array) -> Array:
    """Of integers, the quotient without its fraction."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not b.all():
        raise EvaluationError("it divides by zero")
    below = np.floor_divide(a, b)
    return np.asarray(below + ((below < 0) & (below * b != a)).astype(below.dtype))


def _where(call: _Call) -> Array:
    condition, chosen, other = (call.numbers(index, "biuf") for index in range(3))
    _broadcast(call, condition.shape, chosen.shape, other.shape)
    return np.where(condition, chosen, other)


def _clip(call: _Call) -> Array:
    result = call.numbers(0)
    for index, attribute, function in ((1, "min", np.maximum), (2, "max", np.minimum)):
        if call.has(index):
            bound = call.numbers(index)
            if bound.size != 1:
                raise EvaluationError(f"a bound of it has {bound.size} values")
            result = function(result, bound.reshape(()).astype(result.dtype))
        elif attribute in call.node.attributes:
            result = function(result, np.asarray(call.node.float(attribute, 0.0), result.dtype))
    return np.asarray(result)


def _reduced(function: Callable[..., Array]) -> Callable[[_Call], Array]:
    """A sum or a product along axes, all of them if none are named."""

    def apply(call: _Call) -> Array:
        data = call.numbers(0)
        axes = _distinct(call.integers(1, "axes") or (), data.ndim)
        if not axes and call.node.int("noop_with_empty_axes", 0):
            return data
        return np.asarray(function(data, axes or None, data.dtype, keepdims=call.node.int("keepdims", 1) != 0))

    return apply


def _product(call: _Call) -> Array:
    left, right = call.numbers(0), call.numbers(1)
    if not left.ndim or not right.ndim or left.shape[-1] != right.shape[-2 if right.ndim > 1 else 0]:
        raise EvaluationError(f"matrices of the shapes {list(left.shape)} and {list(right.shape)} have no product")
    stack = _broadcast(call, left.shape[:-2], right.shape[:-2])
    shape = call.room((*stack, *left.shape[-2:-1], *(right.shape[-1:] if right.ndim > 1 else ())))
    if math.prod(shape) * left.shape[-1] > _MOST_PRODUCTS:
        raise EvaluationError(f"it is a sum of {math.prod(shape) * left.shape[-1]} products")
    return np.asarray(np.matmul(left, right), left.dtype)


def _power(base: Array, exponent: Array) -> Array:
    if base.dtype.kind != "f" and (exponent < 0).any():
        raise EvaluationError("an integer has a negative power")
    return np.asarray(np.power(base, exponent)).astype(base.dtype)


# -- codes -----------------------------------------------------------------------------------------------------------


def _dequantize(call: _Call) -> Array:
    zero_point = call.array(2) if call.has(2) else None
    return dequantize(call.array(), call.array(1), zero_point, call.node.int("axis", 1), call.node.int("block_size", 0))


def _quant(call: _Call) -> Array:
    values, scale = call.numbers(0), call.numbers(1)
    zero_point, bits = (call.numbers(index) if call.has(index) else None for index in (2, 3))
    _broadcast(call, values.shape, scale.shape, zero_point.shape if zero_point is not None else ())
    try:
        return quantised(call.node, values, scale, zero_point, bits)
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def dequantize(codes: Array, scale: Array, zero_point: Array | None, axis: int, block_size: int = 0) -> Array:
    """DequantizeLinear: `(codes - zero_point) * scale`, per tensor, per channel of `axis`, or in blocks along it.

    Returns float32. Source: ONNX operator specification, DequantizeLinear-21.

    Raises:
        EvaluationError: scale or zero point do not fit the codes, or are no numbers.
    """
    if any(part is not None and part.dtype.kind in "OSU" for part in (codes, scale, zero_point)):
        raise EvaluationError("codes, scale or zero point are strings")
    scale = np.asarray(scale, np.float32)
    shift = np.zeros_like(scale) if zero_point is None else np.asarray(zero_point).astype(np.float32)
    # A scale may be infinite or no number at all; what comes out then is for a rule to report.
    with np.errstate(over="ignore", invalid="ignore"):
        return (codes.astype(np.float32) - spread(shift, codes.shape, axis, block_size)) * spread(
            scale, codes.shape, axis, block_size
        )


def spread(parameter: Array, shape: tuple[int, ...], axis: int, block_size: int = 0) -> Array:
    """Bring a scale or zero point into a form that broadcasts against a tensor of `shape`.

    Raises:
        EvaluationError: its length does not fit the axis, or its blocks do not fit the shape.
    """
    if parameter.size == 1:
        return parameter.reshape(())
    check_parameter(parameter.shape, shape, axis, block_size)
    axis %= len(shape)
    if block_size:
        return parameter.take(np.arange(shape[axis]) // block_size, axis=axis)
    return parameter.reshape([-1 if position == axis else 1 for position in range(len(shape))])


def check_parameter(parameter: tuple[int, ...], shape: tuple[int, ...], axis: int, block_size: int = 0) -> None:
    """Check that a scale or zero point of shape `parameter` fits a tensor of `shape`.

    Raises:
        EvaluationError: its length does not fit the axis, or its blocks do not fit the shape.
    """
    if math.prod(parameter) == 1:
        return
    axis = _axis(axis, len(shape))
    if block_size < 0:
        raise EvaluationError(f"the block size {block_size} is negative")
    if block_size:
        blocks = -(-shape[axis] // block_size)
        if parameter != (*shape[:axis], blocks, *shape[axis + 1 :]):
            raise EvaluationError(f"{list(parameter)} blocks of {block_size} do not fit {list(shape)}")
    elif parameter != (shape[axis],):
        raise EvaluationError(f"{list(parameter)} values for {shape[axis]} channels of axis {axis}")


_OPERATIONS: Mapping[str, Callable[[_Call], Array]] = {
    "Identity": lambda call: call.array(),
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
    "Expand": _expand,
    "Tile": _tile,
    "Trilu": _triangle,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Add": _combined(np.add),
    "Sub": _combined(np.subtract),
    "Mul": _combined(np.multiply),
    "Div": _combined(_quotient),
    "Min": _combined(np.minimum, operands=None),
    "Max": _combined(np.maximum, operands=None),
    "Equal": _combined(np.equal, "biuf"),
    "Greater": _combined(np.greater),
    "Less": _combined(np.less),
    "GreaterOrEqual": _combined(np.greater_equal),
    "LessOrEqual": _combined(np.less_equal),
    "And": _combined(np.logical_and, "b"),
    "Or": _combined(np.logical_or, "b"),
    "Where": _where,
    "Clip": _clip,
    "ReduceSum": _reduced(np.sum),
    "ReduceProd": _reduced(np.prod),
    "MatMul": _product,
    "Pow": _combined(_power),
    "Not": _mapped(np.logical_not, "b"),
    "Neg": _mapped(np.negative, "if"),
    "Sqrt": _mapped(np.sqrt, "f"),
    "Sin": _mapped(np.sin, "f"),
    "Cos": _mapped(np.cos, "f"),
    "Exp": _mapped(np.exp, "f"),
    "Reciprocal": _mapped(np.reciprocal, "f"),
    "Floor": _mapped(np.floor, "f"),
    "Ceil": _mapped(np.ceil, "f"),
    "DequantizeLinear": _dequantize,
}
