"""A MatMul that becomes a Gemm: ONNX Runtime fuses it with the Add of its bias when it loads or prepares a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from onnxlint_q.graph import Model, Node

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})
Shape = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class AddedBias:
    """The bias of a product that is quantised as one Gemm with it.

    Attributes:
        add: the node that adds it.
        key: the constant, a vector with a value for each column.
        whole: the product is of rank 2. Another one stands between two Reshape, and a Relu behind these has a scale of
            its own beside that of the sum.
    """

    add: Node
    key: str
    whole: bool


def becomes_gemm(model: Model, product: Node) -> bool:
    """Whether ONNX Runtime makes one Gemm of a MatMul and the Add behind it (matmul_add_fusion.cc).

    It does in single and half precision where nothing else reads the product and a constant that is added fits a Gemm,
    if the shapes are known: all of them, or for rank 2 those behind the batch.
    """
    return _fused(model, product) is not None


def added_bias(model: Model, product: Node) -> AddedBias | None:
    """The bias of a MatMul that is quantised as one Gemm with it; None where the two are taken as they stand.

    Some of those that `becomes_gemm` are: with a bias that is a matrix, of which the quantiser writes no file with one
    scale a channel; with a constant on the left, which is an activation to it; without any value.
    """
    fused = _fused(model, product)
    if fused is None or model.is_constant(product.input(0)) or 0 in (model.shape(product.output) or ()):
        return None
    return fused if len(model.shape(fused.key) or ()) == 1 else None


def _fused(model: Model, product: Node) -> AddedBias | None:
    if product.op_type != "MatMul" or not product.is_standard or len(product.inputs) != 2:
        return None
    key = product.output
    add, result, known = model.sole_consumer(key), model.shape(key), model.types.get(key)
    if add is None or add.op_type != "Add" or not add.is_standard or add.graph != product.graph:
        return None
    if known is None or known.elem_type not in _FLOATS:
        return None
    left, right = map(model.shape, product.inputs)
    if not result or not left or right is None or len(right) != 2 or (len(result) != 2 and None in result):
        return None
    biases = ((one, model.shape(one)) for one in add.inputs if one != key and model.is_constant(one))
    fitting = (one for one, shape in biases if shape is not None and _fits(shape, result, matrix=len(left) == 2))
    bias = next(fitting, None)
    return AddedBias(add, bias, whole=len(left) == 2) if bias is not None else None


def _fits(bias: Shape, result: Shape, *, matrix: bool) -> bool:
    """Whether a product of this shape has such a bias as a Gemm; only one of two matrices may have a matrix."""
    columns, fitting = result[-1], list[Shape]()
    if columns is not None:
        fitting.append((columns,))
    if columns is not None and matrix:
        fitting.append((1, columns))
        fitting += [(result[0], columns), (result[0], 1)] if result[0] is not None else []
    return tuple(bias) in fitting
