"""A MatMul that becomes a Gemm: ONNX Runtime fuses it with the Add of its bias when it loads or prepares a file."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnxlint_q.graph import Model, Node

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})
Shape = Sequence[int | None]


def fused_add(model: Model, product: Node) -> Node | None:
    """The Add that ONNX Runtime makes one Gemm of a MatMul with; None where it does not.

    It does where nothing else reads the product and the constant fits the bias of a Gemm, if the shapes are known: all
    of them, or for rank 2 those behind the batch (matmul_add_fusion.cc).
    """
    if product.op_type != "MatMul" or not product.is_standard or len(product.inputs) != 2:
        return None
    key = product.output
    add, result, known = model.sole_consumer(key), model.shape(key), model.types.get(key)
    if add is None or add.op_type != "Add" or not add.is_standard or known is None or known.elem_type not in _FLOATS:
        return None
    left, right = map(model.shape, product.inputs)
    if not result or not left or right is None or len(right) != 2 or (len(result) != 2 and None in result):
        return None
    biases = (model.shape(key) for key in add.inputs if model.is_constant(key))
    fits = any(bias is not None and _fits(bias, result, matrix=len(left) == 2) for bias in biases)
    return add if fits else None


def _fits(bias: Shape, result: Shape, *, matrix: bool) -> bool:
    """Whether a product of this shape has such a bias as a Gemm; only that of a `matrix` may have a matrix."""
    columns, fitting = result[-1], list[Shape]()
    if columns is not None:
        fitting.append((columns,))
    if columns is not None and matrix:
        fitting.append((1, columns))
        fitting += [(result[0], columns), (result[0], 1)] if result[0] is not None else []
    return tuple(bias) in fitting
