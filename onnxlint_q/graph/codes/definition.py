"""What operators with packed weights demand of their inputs, by their definition.

    MatMulNBits          B [N, ceil(K/block), block*bits/8]   scales [N, ceil(K/block)]
                         zero points, packed [N, ceil(ceil(K/block)*bits/8)], or real as the scales; bias [N]
    MatMulBnb4           B ceil(N*K/2) bytes                  absmax ceil(N*K/block) values
    GatherBlockQuantized scales as the data, ceil(d/block) along the quantised axis; zero points packed as the data
    DynamicQuantizeLSTM  W [D, inputs, 4H]   R [D, H, 4H]     scale and zero point [D] or [D, 4H] each

Scales and zero points of MatMulNBits may lie flat, those of MatMulBnb4 in any shape of as many values.

Sources: ContribOperators.md of ONNX Runtime, and what 1.32.0 loads and runs, which the tests hold this against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import MICROSOFT

Shape = tuple[int, ...]
_T = onnx.TensorProto
SMALLEST_BLOCK = 16
_PACKED_BITS = frozenset({2, 4, 8})
_ELEMENT_BITS: Mapping[int, int] = {_T.INT4: 4, _T.UINT4: 4}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the inputs of a node, by position: stored types and shapes of constants.

    Attributes:
        shapes: an open axis of an input that is computed is -1.
        types: TensorProto.DataType.
    """

    shapes: Mapping[int, Shape]
    types: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """What an operator demands of one input.

    Attributes:
        slot: its position.
        name: what the operator calls it.
        shapes: those that it may have; of several of one meaning the first is the documented one.
        any_shape: as many values in any shape will do.
    """

    slot: int
    name: str
    shapes: tuple[Shape, ...]
    any_shape: bool = False

    def met_by(self, shape: Shape) -> bool:
        """Whether an input of this shape will do."""
        return shape in self.shapes or (self.any_shape and math.prod(shape) == math.prod(self.shapes[0]))


def has_packed_weight(node: Node) -> bool:
    """Whether this module knows what the operator demands."""
    return node.domain == MICROSOFT and node.op_type in _DEMANDS


def wrong_attributes(node: Node) -> Iterator[str]:
    """Attributes of an operator with packed weights that its definition rules out, in words."""
    kind = node.op_type
    block = node.int("block_size", 128 if kind == "GatherBlockQuantized" else 0)
    if kind != "DynamicQuantizeLSTM" and block and (block < SMALLEST_BLOCK or block & (block - 1)):
        yield f"block_size {block}; a power of two from {SMALLEST_BLOCK} on is needed"
    if kind in {"MatMulNBits", "GatherBlockQuantized"} and node.int("bits", 4) not in _PACKED_BITS:
        yield f"bits {node.int('bits', 4)}; 2, 4 or 8 are possible"
    if kind == "MatMulBnb4" and node.int("quant_type", 1) not in {0, 1}:
        yield f"quant_type {node.int('quant_type', 1)}; 0 is FP4, 1 is NF4"


def demands(node: Node, known: Known) -> Iterator[Demand]:
    """What the node demands of its inputs, as far as attributes and the other inputs tell."""
    return _DEMANDS[node.op_type](node, known)


def blocks(length: int, size: int) -> int:
    """How many blocks of a size a length takes."""
    return -(-length // size)


def _n_bits(node: Node, known: Known) -> Iterator[Demand]:
    outputs, inputs, size, bits = (node.int(name, 0) for name in ("N", "K", "block_size", "bits"))
    bits = bits or 4
    # A weight that is packed for one device has that device's layout, and one without values leaves a product out.
    if min(outputs, inputs, size) < 1 or node.int("weight_prepacked", 0) or 0 in known.shapes.get(1, ()):
        return
    count = blocks(inputs, size)
    yield from _last_axis(known, inputs)
    yield Demand(1, "B", ((outputs, count, size * bits // 8),))
    yield Demand(2, "scales", ((outputs, count), (outputs * count,)))
    row = blocks(count * bits, 8) if known.types.get(3, _T.UINT8) == _T.UINT8 else count
    yield Demand(3, "zero_points", ((outputs, row), (outputs * row,)))
    yield Demand(5, "bias", ((outputs,),))


def _bnb4(node: Node, known: Known) -> Iterator[Demand]:
    outputs, inputs, size = (node.int(name, 0) for name in ("N", "K", "block_size"))
    if min(outputs, inputs, size) < 1:
        return
    yield from _last_axis(known, inputs if node.int("transB", 1) else outputs)
    yield Demand(1, "B", ((blocks(outputs * inputs, 2),),), any_shape=True)
    yield Demand(2, "absmax", ((blocks(outputs * inputs, size),),), any_shape=True)


def _last_axis(known: Known, length: int) -> Iterator[Demand]:
    """The input of a product, whose last axis is `length`."""
    shape = known.shapes.get(0)
    if shape and shape[-1] >= 0:
        yield Demand(0, "A", ((*shape[:-1], length),))


def _gather(node: Node, known: Known) -> Iterator[Demand]:
    data, kind = known.shapes.get(0), known.types.get(0, 0)
    size, bits = node.int("block_size", 128), _ELEMENT_BITS.get(kind, 0)
    if not data or size < 1 or (kind != _T.UINT8 and not bits):
        return
    per_byte = 8 // node.int("bits", 4) if kind == _T.UINT8 and node.int("bits", 4) in _PACKED_BITS else 1
    rank, axis = len(data), node.int("quantize_axis", 1)
    if not -rank <= axis < rank:
        return
    values = (*data[:-1], data[-1] * per_byte)
    scales = tuple(blocks(n, size) if one == axis % rank else n for one, n in enumerate(values))
    yield Demand(2, "scales", (scales,))
    yield Demand(3, "zero_points", ((*scales[:-1], blocks(scales[-1], per_byte)),))


def _lstm(node: Node, known: Known) -> Iterator[Demand]:
    hidden, directions = node.int("hidden_size", 0), 2 if node.text("direction", "forward") == "bidirectional" else 1
    if hidden < 1:
        return
    read = known.shapes.get(0) or known.shapes.get(1, ())[:2]
    if len(read) >= 2 and read[-1] >= 0:
        yield Demand(1, "W", ((directions, read[-1], 4 * hidden),))
    yield Demand(2, "R", ((directions, hidden, 4 * hidden),))
    for slot, name in ((8, "W_scale"), (9, "W_zero_point"), (10, "R_scale"), (11, "R_zero_point")):
        yield Demand(slot, name, ((directions,), (directions, 4 * hidden)))


_DEMANDS = {
    "MatMulNBits": _n_bits,
    "MatMulBnb4": _bnb4,
    "GatherBlockQuantized": _gather,
    "DynamicQuantizeLSTM": _lstm,
}
