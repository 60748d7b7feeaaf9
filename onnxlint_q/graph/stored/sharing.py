"""Who shares a scale that broadcasts against its codes, and constants as numbers."""

from __future__ import annotations

from onnxlint_q.graph.model import Model
from onnxlint_q.graph.tensors import Array, is_real


def numbers(model: Model, key: str) -> Array | None:
    """The values of a constant; None where it is none, or holds no numbers."""
    value = model.constant(key)
    return value if value is not None and is_real(value) else None


def axis_and_block(scale: Array | None, shape: tuple[int | None, ...]) -> tuple[int, int]:
    """Along which axis scales that broadcast differ, and how many values share one there; 0 for all of one index."""
    if scale is None or scale.size == 1 or scale.ndim > len(shape):
        return 0, 0
    dims = (*(1,) * (len(shape) - scale.ndim), *scale.shape)
    several = [axis for axis, length in enumerate(dims) if length > 1]
    shared = [axis for axis, length in enumerate(dims) if length == 1 != shape[axis]]
    if len(several) > 1 and shared:
        return shared[-1], shape[shared[-1]] or 0
    return several[-1], 0
