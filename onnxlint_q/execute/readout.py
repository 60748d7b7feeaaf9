"""How the real values of a network are read out of a running session, and how a second model is fed the same sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.number_formats import NumberFormat, codes
from onnxlint_q.analysis.pairing.match import channels_moved
from onnxlint_q.analysis.pairing.skeleton import StoredValue
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.source import Sample, dtype_of
from onnxlint_q.execute.executable import Executable, as_stored, with_outputs
from onnxlint_q.graph import Model, QuantizedTensor, Value, find_quantized_tensors
from onnxlint_q.graph.evaluate import dequantize, spread

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """One value of a network as float32.

    Attributes:
        tensor: the float tensor, or the codes.
        pair: where `tensor` holds codes, what they mean.
        fetched: tensors that have to be fetched for it.
    """

    tensor: str
    pair: QuantizedTensor | None
    fetched: tuple[str, ...]

    def read(self, model: Model, values: Mapping[str, Array]) -> Array:
        """The real values, from what a run returned and from constants."""
        held = values[self.tensor]
        if held.dtype.kind not in "fiubV":  # strings, sequences
            return np.empty(0, np.float32)
        if self.pair is None:
            return np.asarray(held, np.float32)
        scale, zero_point = (
            values.get(key, model.constant(key) if key else None) for key in (self.pair.scale, self.pair.zero_point)
        )
        assert scale is not None
        return np.asarray(dequantize(held, scale, zero_point, self.pair.axis, self.pair.block_size), np.float32)


def readout(model: Model, value: StoredValue) -> Readout:
    """How to read `held` as the operators behind it see it: rounded, where it is quantised."""
    pair = value.quantized
    if pair is None:
        return Readout(value.tensors[0], None, value.tensors[:1])
    for tensor in value.tensors:
        producer = model.producer(tensor)
        if producer is not None and producer.op_type == "DequantizeLinear":
            return Readout(tensor, None, (tensor,))
    run_time = tuple(key for key in (pair.scale, pair.zero_point) if key and not model.is_constant(key))
    return Readout(pair.codes, pair, (pair.codes, *run_time))


def with_fetched_outputs(model: Model, readouts: Iterable[Readout]) -> tuple[Executable, tuple[str, ...]]:
    """The model as stored with what the readouts need among its outputs, and the names to fetch."""
    given = {value.name for value in model.inputs}
    names = tuple(dict.fromkeys(key for reading in readouts for key in reading.fetched if key not in given))
    return with_outputs(as_stored(model), names), names


def fed(model: Model, inputs: Sequence[tuple[Value, Value]], sample: Sample) -> Sample:
    """A sample of the first inputs in the form that the second ones want: layout, type, codes.

    Raises:
        DataError: a value cannot be brought into the type.
    """
    return {theirs.name: _converted(model, ours, theirs, sample[ours.name]) for ours, theirs in inputs}


def matching(exact: Array, other: Array) -> Array | None:
    """`other` in the layout of `exact`: the same, channels moved, or the axes before the last in other groups.

    None if it is neither.
    """
    if exact.shape == other.shape:
        return other
    if channels_moved(exact.shape, other.shape):
        return np.moveaxis(other, -1, 1)
    if channels_moved(other.shape, exact.shape):
        return np.moveaxis(other, 1, -1)
    grouped = exact.size == other.size and exact.shape[-1:] == other.shape[-1:]
    if grouped or [dim for dim in exact.shape if dim != 1] == [dim for dim in other.shape if dim != 1]:
        return other.reshape(exact.shape)
    return None


def _converted(model: Model, ours: Value, theirs: Value, array: Array) -> Array:
    shape = theirs.type.shape
    if shape is not None and channels_moved(shape, array.shape):
        array = np.moveaxis(array, -1, 1)
    elif shape is not None and channels_moved(array.shape, shape):
        array = np.moveaxis(array, 1, -1)
    wanted = dtype_of(theirs)
    if np.issubdtype(array.dtype, np.floating) and not np.issubdtype(wanted, np.inexact):
        return _codes(model, ours, theirs, array)
    return np.ascontiguousarray(array, wanted)


def _codes(model: Model, ours: Value, theirs: Value, array: Array) -> Array:
    """A float sample for a model that takes codes."""
    pair = next((found for found in find_quantized_tensors(model) if found.codes == theirs.name), None)
    scale = pair.read_scale(model) if pair is not None else None
    if pair is None or scale is None or pair.code_range is None:
        raise DataError(
            f"{model.name}: input {theirs.name!r} takes {onnx.TensorProto.DataType.Name(theirs.type.elem_type)} where "
            f"the float model's {ours.name!r} takes float, and no scale says what its codes mean; "
            "name a quantised file that takes float, or one that begins with a DequantizeLinear"
        )
    zero_point = pair.read_zero_point(model)
    shift = np.zeros((), np.float32) if zero_point is None else zero_point.astype(np.float32)
    steps, zeros = (spread(values, array.shape, pair.axis) for values in (scale, shift))
    return np.asarray(codes(array, steps, NumberFormat(pair.elem_type, symmetric=False), zeros), dtype_of(theirs))
