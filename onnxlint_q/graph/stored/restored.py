"""Weights that plain operators restore from codes: Cast, then Mul or Div by a scale, with an offset before or behind.

    w = (cast(codes) - zero_point) * scale        w = cast(codes) * scale + offset

Tools that only want small files write weights so, as DequantizeLinear was slower. Runtimes fold all of it at load.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.stored.sharing import numbers
from onnxlint_q.graph.tensors import Array

_STEPS = frozenset({"Mul", "Div"})
_SHIFTS = frozenset({"Add", "Sub"})


@dataclass(frozen=True, slots=True)
class Restored:
    """A weight in codes, and the nodes that make it real.

    Attributes:
        codes: key of the stored codes.
        rescale: the Mul or Div.
        factor: key of the constant that it multiplies with or divides by.
        before, behind: an Add or Sub in front of it and behind it, with the key of its constant.
        tensor: key of the real weight.
    """

    codes: str
    rescale: Node
    factor: str
    tensor: str
    before: tuple[Node, str] | None = None
    behind: tuple[Node, str] | None = None

    def read_codes(self, model: Model) -> Array | None:
        """The codes as they are stored."""
        return numbers(model, self.codes)

    def read_scale(self, model: Model) -> Array | None:
        """The scale; None where it holds no numbers."""
        factor = numbers(model, self.factor)
        if factor is None or self.rescale.op_type == "Mul":
            return factor
        with np.errstate(all="ignore"):
            return np.asarray(1 / factor)

    def read_zero_point(self, model: Model) -> Array | None:
        """The code of zero, which need not be whole; None where the restored values have no offset."""
        if self.before is not None:
            node, key = self.before
            shift = numbers(model, key)
            return shift if shift is None or node.op_type == "Sub" else -shift
        scale = self.read_scale(model)
        if self.behind is None or scale is None:
            return None
        node, key = self.behind
        offset = numbers(model, key)
        if offset is None:
            return None
        with np.errstate(all="ignore"):
            return np.asarray((offset if node.op_type == "Sub" else -offset) / scale)


def restored(model: Model, node: Node) -> Restored | None:
    """What a Mul or Div restores; None where it is no step of a constant weight on its way from codes."""
    if node.op_type not in _STEPS or not node.is_standard or not model.is_constant(node.output):
        return None
    chain = model.constants.chain(node.output)
    if not any(step.op_type == "Cast" for step in chain) or any(step.op_type in _STEPS for step in chain[1:]):
        return None
    before = next(((step, _other(model, step)) for step in chain[1:] if step.op_type in _SHIFTS), None)
    behind, reader = None, model.sole_consumer(node.output)
    if reader is not None and reader.op_type in _SHIFTS and model.is_constant(reader.output) and before is None:
        behind = (reader, _other(model, reader))
    tensor = node.output if behind is None else behind[0].output
    return Restored(model.constants.origin(node.output), node, _other(model, node), tensor, before, behind)


def _other(model: Model, node: Node) -> str:
    """Key of the operand that is not on the way from the codes."""
    return node.input(1 - model.constants.slot(node.output))
