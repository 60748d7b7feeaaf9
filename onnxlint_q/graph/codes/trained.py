"""The rounding that training with fake quantisation exports as one operator: Quant and its relatives of QONNX.

    Quant         y = (clamp(round(x / scale + zero_point)) - zero_point) * scale
    BipolarQuant  y = scale where x >= 0, else -scale

A signed code of b bits reaches from -2^(b-1), one more where it is narrow, to 2^(b-1) - 1; an unsigned one from 0 to
2^b - 1, one less where it is narrow. What comes out is real, not a code.

Source: QONNX, docs/qonnx-custom-ops/quant_op.md and bipolar_quant_op.md; Pappalardo et al., arXiv 2206.07527.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import TRAINERS
from onnxlint_q.graph.tensors import Array

Float = npt.NDArray[np.float32]
_MOST_BITS = 32
_ROUNDED: Mapping[str, Callable[[Float], Float]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda values: np.sign(values) * np.ceil(np.abs(values)),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda values: np.sign(values) * np.floor(np.abs(values) + np.float32(0.5)),
    "HALF_DOWN": lambda values: np.sign(values) * np.ceil(np.abs(values) - np.float32(0.5)),
}


def is_quant(node: Node) -> bool:
    """Whether the node rounds to whole codes of any number of bits."""
    return node.domain in TRAINERS and node.op_type in {"Quant", "IntQuant", "BipolarQuant"}


def is_computed(node: Node) -> bool:
    """Whether its rounding is one that is known here."""
    return node.op_type == "BipolarQuant" or node.text("rounding_mode", "ROUND").upper() in _ROUNDED


def code_ends(node: Node, bits: Array | None) -> tuple[int, int] | None:
    """Smallest and largest code; None where the bits are no constant whole number."""
    if node.op_type == "BipolarQuant":
        return -1, 1
    if bits is None or bits.size != 1:
        return None
    width = float(bits.reshape(()))
    if not (math.isfinite(width) and width == int(width) and 1 <= width <= _MOST_BITS):
        return None
    narrow, levels = int(node.int("narrow", 0) != 0), 1 << int(width)
    if node.int("signed", 1):
        return -levels // 2 + narrow, levels // 2 - 1
    return 0, levels - 1 - narrow


def quantised(node: Node, values: Array, scale: Array, zero_point: Array | None, bits: Array | None) -> Float:
    """What the node makes of `values`; the parameters broadcast against them.

    Raises:
        ValueError: bits or rounding are not known.
    """
    real, step = values.astype(np.float32), np.asarray(scale, np.float32)
    if node.op_type == "BipolarQuant":
        return np.where(real >= 0, step, -step)
    ends, rounded = code_ends(node, bits), _ROUNDED.get(node.text("rounding_mode", "ROUND").upper())
    if ends is None or rounded is None:
        raise ValueError("its bits or its rounding mode are not known")
    zero = np.zeros((), np.float32) if zero_point is None else np.asarray(zero_point, np.float32)
    return (np.clip(rounded(real / step + zero), *ends) - zero) * step
