"""Packed weights unpacked: codes, scales and zero points in the shapes that ONNX's own operators give them.

    MatMulNBits, GatherBlockQuantized   w = (code - zero_point) * scale, a scale a block
    MatMulBnb4                          w = table[code] * absmax, an absmax a run of the flattened weight
    DynamicQuantizeLSTM                 w = (code - zero_point) * scale, a scale a direction or a row of a gate

A parameter that has not as many values as it needs is not read; a rule reports its shape.

Sources: ContribOperators.md; the table of NF4 and FP4: blockwise_quant_block_bnb4.h of ONNX Runtime, after Dettmers et
al., QLoRA, arXiv 2305.14314, appendix E. The tests hold all of it against what ONNX Runtime computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph.codes.definition import blocks
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import MICROSOFT
from onnxlint_q.graph.tensors import Array, is_real

Codes = npt.NDArray[np.generic]
_T = onnx.TensorProto
_FP4 = (0.0, 0.0052083333, 2 / 3, 1.0, 1 / 3, 0.5, 1 / 6, 0.25)
_NF4 = (
    *(-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
)
_TABLES = (np.array([*_FP4, *(-value for value in _FP4)], np.float32), np.array(_NF4, np.float32))


@dataclass(frozen=True, slots=True)
class Layout:
    """How a weight in codes lies in a file, and where its parameters belong.

    Attributes:
        shape: of the codes, unpacked.
        bits: of a code.
        signed: whether there are negative codes.
        axis: along which scales differ.
        block_size: values that share a scale along the axis; 0 where all of one index do.
        parameters: shape of the scales, unpacked.
        packed: shape of the zero points where these are packed like the codes; None where they are not.
        centre: the code of zero where no zero point is given.
        table: what a code stands for, where it is not itself.
        turned: the float operator holds the weight with its last two axes exchanged.
    """

    shape: tuple[int, ...]
    bits: int
    signed: bool
    axis: int
    block_size: int
    parameters: tuple[int, ...]
    packed: tuple[int, ...] | None = None
    centre: int = 0
    table: int | None = None
    turned: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as the float operator holds it."""
        return (*self.shape[:-2], self.shape[-1], self.shape[-2]) if self.turned else self.shape

    @property
    def type_name(self) -> str:
        """What the codes are called: `uint4`, `nf4`."""
        if self.table is not None:
            return ("fp4", "nf4")[self.table]
        return f"{'' if self.signed else 'u'}int{self.bits}"

    @property
    def code_range(self) -> tuple[int, int] | None:
        """Smallest and largest code; None where codes are not numbers."""
        if self.table is not None:
            return None
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def takes(self, scales: int) -> bool:
        """Whether so many scales are as many as it needs."""
        return scales == math.prod(self.parameters) or (not self.block_size and scales == self.parameters[0])

    def codes(self, stored: Array) -> Array:
        """The codes of a weight, unpacked."""
        if self.table is not None:
            pairs = np.ravel(stored)
            return np.stack([pairs >> 4, pairs & 15], axis=-1).ravel()[: math.prod(self.shape)].reshape(self.shape)
        if self.packed is None or stored.dtype != np.uint8:
            return stored.reshape(self.shape)
        lines = unpacked(stored, self.bits).reshape(*self.shape[:-1], -1)
        return lines[..., : self.shape[-1]]

    def scale(self, stored: Array | None) -> Array | None:
        """The scales, unpacked; None where they are no numbers or not as many as are needed."""
        return self._filled(stored) if stored is not None and is_real(stored) else None

    def zero_point(self, stored: Array | None) -> Array:
        """The zero points, unpacked; the centre where they are not there, or cannot be read."""
        if stored is not None and is_real(stored):
            if self.packed is not None and stored.dtype == np.uint8 and stored.size == math.prod(self.packed):
                return unpacked(stored.reshape(self.packed), self.bits)[..., : self.parameters[-1]]
            found = self._filled(stored)
            if found is not None:
                return found
        return np.full(self.parameters, self.centre, np.float32)

    def weight(self, stored: Array, scale: Array | None, zero_point: Array | None) -> npt.NDArray[np.float32]:
        """The weight as the float operator holds it."""
        steps = self.scale(scale)
        step = np.ones(self.parameters, np.float32) if steps is None else np.asarray(steps, np.float32)
        found = self._units(stored, zero_point)
        with np.errstate(all="ignore"):  # parameters that are no numbers are for a rule to report
            if self.table is not None:
                found *= step.repeat(min(self.block_size, found.size))[: found.size].reshape(self.shape)
            else:
                found *= self._spread(step)
        return np.swapaxes(found, -1, -2) if self.turned else found

    def in_use(self, stored: Array, zero_point: Array | None) -> npt.NDArray[np.bool_]:
        """Whether each block holds anything but zero, in the order of its scales."""
        used = self._units(stored, zero_point) != 0
        if self.table is not None:
            return np.logical_or.reduceat(used.ravel(), np.arange(0, used.size, self.block_size))
        starts = np.arange(0, self.shape[self.axis], self.block_size or self.shape[self.axis])
        return np.logical_or.reduceat(used, starts, axis=self.axis).ravel()

    def _units(self, stored: Array, zero_point: Array | None) -> npt.NDArray[np.float32]:
        """The weight with a scale of 1, in the shape of its codes."""
        codes = self.codes(stored)
        if self.table is not None:
            return _TABLES[self.table][codes]
        zeros = self._spread(self.zero_point(zero_point).astype(np.float32))
        return np.asarray(codes.astype(np.float32) - zeros, np.float32)

    def _filled(self, stored: Array) -> Array | None:
        """A parameter in its shape; of an LSTM one a direction serves all rows."""
        if stored.size == math.prod(self.parameters):
            return stored.reshape(self.parameters)
        if not self.block_size and stored.size == self.parameters[0]:
            return np.broadcast_to(stored.reshape(-1, 1), self.parameters)
        return None

    def _spread(self, parameter: Array) -> Array:
        if self.block_size:
            return parameter.take(np.arange(self.shape[self.axis]) // self.block_size, axis=self.axis)
        missing = (1,) * (len(self.shape) - 1 - (parameter.ndim - 1))
        return parameter.reshape(parameter.shape[0], *missing, *parameter.shape[1:])


def unpacked(stored: Array, bits: int) -> Array:
    """Numbers of so many bits out of bytes, the lowest bits first, along the last axis."""
    if bits == 8:
        return stored
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    split = (stored[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return split.reshape(*stored.shape[:-1], -1)


def layout_of(node: Node, slot: int, dims: tuple[int, ...], elem_type: int, scales: int = 0) -> Layout | None:
    """The layout of the packed weight at a position of a node; None where it has none, or sizes do not fit.

    Args:
        node: the operator.
        slot: position of the weight among its inputs.
        dims: shape of the weight as it is stored.
        elem_type: TensorProto.DataType of it.
        scales: how many scales there are, where the definition leaves a choice.
    """
    match node.op_type if node.domain == MICROSOFT else "":
        case "MatMulNBits":
            return _n_bits(node, dims) if slot == 1 else None
        case "MatMulBnb4":
            return _bnb4(node, dims) if slot == 1 else None
        case "GatherBlockQuantized":
            return _gather(node, dims, elem_type) if slot == 0 else None
        case "DynamicQuantizeLSTM":
            return _lstm(dims, elem_type, scales) if slot in {1, 2} else None
    return None


def _n_bits(node: Node, dims: tuple[int, ...]) -> Layout | None:
    outputs, inputs, size, bits = (node.int(name, 0) for name in ("N", "K", "block_size", "bits"))
    bits = bits or 4
    if min(outputs, inputs, size) < 1 or bits not in {2, 4, 8} or node.int("weight_prepacked", 0):
        return None
    count = blocks(inputs, size)
    if math.prod(dims) != outputs * count * (size * bits // 8):
        return None
    packed = (outputs, blocks(count * bits, 8))
    return Layout((outputs, inputs), bits, False, 1, size, (outputs, count), packed, 1 << (bits - 1))


def _bnb4(node: Node, dims: tuple[int, ...]) -> Layout | None:
    outputs, inputs, size = (node.int(name, 0) for name in ("N", "K", "block_size"))
    table = node.int("quant_type", 1)
    if min(outputs, inputs, size) < 1 or table not in {0, 1} or math.prod(dims) != blocks(outputs * inputs, 2):
        return None
    scales = (blocks(outputs * inputs, size),)
    turned = node.int("transB", 1) != 0
    return Layout((outputs, inputs), 4, False, 1, size, scales, table=table, turned=turned)


def _gather(node: Node, dims: tuple[int, ...], elem_type: int) -> Layout | None:
    bits, size, rank = node.int("bits", 4), node.int("block_size", 128), len(dims)
    axis = node.int("quantize_axis", 1)
    if size < 1 or rank < 1 or not -rank <= axis < rank or 0 in dims:
        return None
    if elem_type in {_T.INT4, _T.UINT4}:
        signed, centre, per_byte, bits = elem_type == _T.INT4, 0, 1, 4
    elif elem_type == _T.UINT8 and bits in {2, 4, 8}:
        signed, centre, per_byte = False, 1 << (bits - 1), 8 // bits
    else:
        return None
    shape, axis = (*dims[:-1], dims[-1] * per_byte), axis % rank
    scales = tuple(blocks(n, size) if one == axis else n for one, n in enumerate(shape))
    packed = (*scales[:-1], blocks(scales[-1], per_byte))
    return Layout(shape, bits, signed, axis, size, scales, packed, centre, turned=False)


def _lstm(dims: tuple[int, ...], elem_type: int, scales: int) -> Layout | None:
    if len(dims) != 3 or 0 in dims or elem_type not in {_T.INT8, _T.UINT8}:
        return None
    a_row = scales == dims[0] * dims[2] and scales != dims[0]
    parameters = (dims[0], dims[2]) if a_row else (dims[0],)
    return Layout(dims, 8, elem_type == _T.INT8, 2 if a_row else 0, 0, parameters)
