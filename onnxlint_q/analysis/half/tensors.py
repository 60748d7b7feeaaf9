"""Which tensors of a model are float16, and what float16 holds.

IEEE 754 binary16: the largest value is 65,504, and what is nearer to 65,536 becomes infinite. The smallest magnitude is
2^-24, 6e-8; half of it and less becomes 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import Trait

FP16 = "fp16"
"""The name of the scheme: every float tensor is float16."""
LARGEST = 65504.0
"""The largest value of float16."""
OVERFLOWS = 65520.0
"""Magnitude from which a value becomes infinite."""
SMALLEST = 2.0**-24
"""The smallest magnitude of float16 that is not 0."""
VANISHES = 2.0**-25
"""Magnitude up to which a value becomes 0."""
_T = onnx.TensorProto
# Sizes and factors of a resampling have to be float32 in every file.
_SIZES = {"Resize": (1, 2), "Upsample": (1,)}


def is_half(model: Model) -> bool:
    """Whether the file holds tensors of float16."""
    stored = (tensor.data_type for tensor in model.constants.initializers().values())
    return _T.FLOAT16 in stored or any(known.elem_type == _T.FLOAT16 for known in model.types.values())


def computes_in_half(model: Model) -> bool:
    """Whether an operator reads or makes float16. What is only stored so, and widened before use, does not count."""
    halves = half_tensors(model, whole=False)
    operators = (node for node in model.nodes if node.op_type != "Cast")
    return any(key in halves for node in operators for key in (*node.inputs, *node.outputs))


def half_tensors(model: Model, *, whole: bool) -> frozenset[str]:
    """Keys of the tensors that are float16, constants and inputs included.

    Args:
        model: the file.
        whole: whether all its float32 tensors are to be float16, too.
    """
    wanted = {int(_T.FLOAT16), int(_T.FLOAT)} if whole else {int(_T.FLOAT16)}
    return frozenset(_typed(model, wanted)) - frozenset(_sizes(model))


def _typed(model: Model, wanted: set[int]) -> Iterator[str]:
    stored = model.constants.initializers()
    yield from (key for key, known in model.types.items() if known.elem_type in wanted and key not in stored)
    yield from (key for key, tensor in stored.items() if tensor.data_type in wanted)


def _sizes(model: Model) -> Iterator[str]:
    """What says how large something is, and holds no values of the network."""
    for node in model.nodes:
        if node.operator.has(Trait.MEASURES):
            yield from node.outputs
        for slot in _SIZES.get(node.op_type, ()):
            yield node.input(slot)


def divisors(model: Model) -> Iterator[tuple[str, Node]]:
    """Every tensor that something is divided by, or whose logarithm is taken; with the node that does."""
    for node in model.nodes:
        if not node.is_standard:
            continue
        slot = {"Div": 1, "Reciprocal": 0, "Log": 0}.get(node.op_type)
        if slot is None and node.op_type == "Pow":
            power = exponent(model, node)
            slot = 0 if power is not None and power < 0 else None
        if slot is not None and node.input(slot):
            yield node.input(slot), node


def exponent(model: Model, node: Node) -> float | None:
    """The constant that a Pow raises to; None for another operator, or where it is not one number."""
    value = model.constant(node.input(1)) if node.op_type == "Pow" and node.input(1) else None
    return float(value.ravel()[0]) if value is not None and value.size == 1 else None
