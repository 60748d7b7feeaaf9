"""Small networks with outlier channels behind normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx_cases import Array, onnx_text

CHANNELS, WIDE = 32, (5, 20)


def network(blocks: int = 1, factor: float = 60.0, gains: Sequence[float] = (), tail: str = "") -> onnx.ModelProto:
    """Normalisations with two large gains, each read by a product that hardly heeds these channels.

    Args:
        blocks: how many, one after another.
        factor: the large gains.
        gains: those of single blocks instead.
        tail: steps that read the last result `t` of a normalisation as well.
    """
    rng = np.random.default_rng(0)
    arrays, steps, last = dict[str, Array](), list[str](), "x"
    for number in range(blocks):
        gain, weight = np.ones(CHANNELS), rng.normal(scale=0.2, size=(CHANNELS, CHANNELS))
        gain[list(WIDE)] = gains[number] if gains else factor
        weight[list(WIDE)] /= gain[list(WIDE)][:, None]
        arrays |= {f"gain{number}": gain, f"shift{number}": np.zeros(CHANNELS), f"w{number}": weight}
        steps.append(f"[norm{number}] t{number} = LayerNormalization <axis = -1> ({last}, gain{number}, shift{number})")
        last = f"h{number}"
        steps.append(f"[dense{number}] {last} = MatMul(t{number}, w{number})")
    made = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    body = "\n".join([*steps, tail or f"y = Identity({last})"])
    return onnx_text(f"block (float[N, 6, {CHANNELS}] x) => (float[N, 6, {CHANNELS}] y) {{ {body} }}", **made)


def samples(count: int = 32) -> dict[str, Array]:
    """Normal values."""
    return {"x": np.random.default_rng(1).normal(size=(count, 6, CHANNELS)).astype(np.float32)}
