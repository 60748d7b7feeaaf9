"""Small attention networks that mask scores in one way or another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx_cases import Array, onnx_text

LENGTH, WIDTH = 8, 16
LOWEST = float(np.finfo(np.float32).min)
_CAUSAL = np.triu(np.full((1, LENGTH, LENGTH), LOWEST, np.float32), 1)

WAYS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "computed": ("d = Sub(one, keep)  m = Mul(d, c)  a = Add(s, m)  p = Softmax(a)", {"c": LOWEST}),
    "half": ("d = Sub(one, keep)  m = Mul(d, c)  a = Add(s, m)  p = Softmax(a)", {"c": -65504.0}),
    "subtracted": ("d = Sub(one, keep)  m = Mul(d, c)  a = Sub(s, m)  p = Softmax(a)", {"c": 1e9}),
    "negated": ("d = Sub(keep, one)  m = Mul(d, c)  a = Add(s, m)  p = Softmax(a)", {"c": 1e9}),
    "replaced": ("b = Cast <to = 9> (keep)  a = Where(b, s, c)  p = Softmax(a)", {"c": -1e9}),
    "infinite": ("b = Cast <to = 9> (keep)  a = Where(b, s, c)  p = Softmax(a)", {"c": -np.inf}),
    "chosen": ("b = Cast <to = 9> (keep)  m = Where(b, zero, c)  a = Add(s, m)  p = Softmax(a)", {"c": -1e4}),
    "stored": ("a = Add(s, c)  p = Softmax(a)", {"c": _CAUSAL}),
    "scaled": ("d = Sub(one, keep)  m = Mul(d, c)  b = Add(s, m)  a = Mul(b, half)  p = Softmax(a)", {"c": -1e9}),
    "shaped": (
        """n = Shape(s)  f = ConstantOfShape <value = float[1] {-1e9}> (n)  m = Trilu <upper = 1> (f, next)
           a = Add(s, m)  p = Softmax(a)""",
        {},
    ),
}
"""By name how scores `s` become probabilities `p`, with the constant `c`; `a` is what Softmax reads."""


def network(steps: str, **constants: object) -> onnx.ModelProto:
    """One head of attention over `hidden`, of which `keep` says with ones what counts."""
    rng = np.random.default_rng(4)
    arrays: dict[str, Array] = {
        name: (rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH) * size).astype(np.float32)
        for name, size in (("wq", 2.0), ("wk", 2.0), ("wv", 1.0))
    }
    known = {"root": 1 / np.sqrt(WIDTH), "one": 1.0, "zero": 0.0, "half": 0.5, **constants}
    arrays |= {name: np.asarray(value, np.float32) for name, value in known.items()}
    text = f"""attention (float[N, {LENGTH}, {WIDTH}] hidden, float[N, 1, {LENGTH}] keep)
               => (float[N, {LENGTH}, {WIDTH}] y) {{
      q = MatMul(hidden, wq)  k = MatMul(hidden, wk)  v = MatMul(hidden, wv)
      t = Transpose <perm = [0, 2, 1]> (k)  x = MatMul(q, t)  s = Mul(x, root)
      {steps}
      y = MatMul(p, v)
    }}"""
    return onnx_text(text, next=np.asarray(1, np.int64), **arrays)


def samples(count: int = 24, shortest: int = 3) -> dict[str, Array]:
    """Sentences of several lengths."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(shortest, LENGTH + 1, count)
    return {
        "hidden": rng.standard_normal((count, LENGTH, WIDTH)).astype(np.float32),
        "keep": (np.arange(LENGTH) < lengths[:, None]).astype(np.float32)[:, None],
    }
