"""A tensor in codes with its scale and zero point, however the file holds them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph.element_types import CODE_RANGES, FLOAT8, integer_name
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.stored.packed import Packed
from onnxlint_q.graph.stored.sharing import numbers
from onnxlint_q.graph.tensors import Array


class Role(StrEnum):
    """What a quantised tensor is to the operator that reads it."""

    ACTIVATION = "activation"
    WEIGHT = "weight"
    BIAS = "bias"
    CONSTANT = "constant"


class Held(Protocol):
    """Codes and parameters that it takes more than a look at a tensor to read; each None where that cannot be."""

    def read_codes(self, model: Model) -> Array | None:
        """The codes, unpacked."""

    def read_scale(self, model: Model) -> Array | None:
        """The scales."""

    def read_zero_point(self, model: Model) -> Array | None:
        """The zero points."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """One tensor with its scale and zero point.

    Attributes:
        role: activation, weight, bias, or another constant operand.
        tensor: the real-valued tensor where the graph has one (QDQ), else the codes.
        codes: key of the integer tensor.
        node: the operator that carries the qparams.
        scale, zero_point: keys; `zero_point` is empty where it is omitted and so zero.
        axis: per-channel axis; meaningful only if the scale has more than one value.
        block_size: values that share a scale along `axis`; 0 where the scale is not blocked.
        elem_type: TensorProto.DataType of the codes, 0 if unknown.
        dynamic: scale and zero point are computed at run time.
        held: how codes and parameters are read, where they are no tensors of their own as DequantizeLinear reads them.
        ends: smallest and largest code, where they are not those of the element type.
    """

    role: Role
    tensor: str
    codes: str
    node: Node
    scale: str
    zero_point: str
    axis: int = 1
    block_size: int = 0
    elem_type: int = 0
    dynamic: bool = False
    held: Held | None = None
    ends: tuple[int, int] | None = None

    def read_codes(self, model: Model) -> Array | None:
        """The codes of a constant, unpacked; None where they are known at run time only, or are no numbers."""
        return self.held.read_codes(model) if self.held is not None else numbers(model, self.codes)

    def read_scale(self, model: Model) -> Array | None:
        """The scale's values; None where they are known at run time only, or are no numbers."""
        return self.held.read_scale(model) if self.held is not None else numbers(model, self.scale)

    def read_zero_point(self, model: Model) -> Array | None:
        """The zero point's values; None where it is omitted, known at run time only, or no numbers."""
        if self.held is not None:
            return self.held.read_zero_point(model)
        return numbers(model, self.zero_point) if self.zero_point else None

    def blocks_in_use(self, model: Model) -> npt.NDArray[np.bool_] | None:
        """Whether each block of a packed weight holds anything but zero, in the order of its scales; None of others."""
        return self.held.blocks_in_use(model) if isinstance(self.held, Packed) else None

    @property
    def unrounded(self) -> str:
        """Key of the real-valued tensor in front of the rounding; empty where the file holds codes only."""
        return self.tensor if self.node.op_type == "QuantizeLinear" else ""

    @property
    def code_range(self) -> tuple[int, int] | None:
        """Smallest and largest code of an integer type; None for a float type or an unknown one."""
        return self.ends if self.ends is not None else CODE_RANGES.get(self.elem_type)

    @property
    def type_name(self) -> str:
        """What the codes are called: `uint8`, `int3`, `nf4`; empty if that is not known."""
        if isinstance(self.held, Packed):
            return self.held.layout.type_name
        if self.ends is not None:
            return integer_name(self.ends)
        known = CODE_RANGES.keys() | FLOAT8
        return str(onnx.TensorProto.DataType.Name(self.elem_type)).lower() if self.elem_type in known else ""
