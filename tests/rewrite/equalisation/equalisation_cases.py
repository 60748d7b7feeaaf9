"""Networks with channels between layers, and what their inputs may hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx_cases import Array, onnx_text

IMAGE = "net (float[N, 3, 8, 8] x) => (float[N, A, B, C] y)"
ROWS = "net (float[N, 6] x) => (float[N, M] y)"
DEPTHWISE = """
  a = Conv <pads = [1, 1, 1, 1]> (x, c8x3k3, b8)
  b = Clip(a, zero, six)
  c = Conv <group = 8, pads = [1, 1, 1, 1]> (b, c8x1k3, e8)
  d = Clip(c, zero, six)
  y = Conv(d, c4x8k1)
"""
SHUFFLE = """
  a = Conv(x, c8x3k3, b8)
  r = Reshape(a, two_groups)
  t = Transpose <perm = [0, 2, 1, 3, 4]> (r)
  s = Reshape(t, eight)
  p, q = Split <axis = 1> (s, four_four)
  u = Conv(p, c4x4k1)
  j = Concat <axis = 1> (u, q)
  y = Conv(j, c4x8k1)
"""
NETWORKS: Mapping[str, tuple[str, str]] = {
    "a chain": (IMAGE, "a = Conv(x, c8x3k3, b8)\n r = Relu(a)\n y = Conv(r, c4x8k1)"),
    "bounds": (IMAGE, DEPTHWISE),
    "bounds on both sides": (IMAGE, "a = Conv(x, c8x3k3, b8)\n r = Clip(a, low, high)\n y = Conv(r, c4x8k1)"),
    "gates of what they read": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n s = Sigmoid(a)\n r = Mul(a, s)\n c = Conv <group = 8> (r, c8x1k3, e8)\n"
        " t = HardSigmoid(c)\n u = Mul(t, c)\n y = Conv(u, c4x8k1)",
    ),
    "a lower bound": (IMAGE, "a = Conv(x, c8x3k3, b8)\n r = Clip(a, low)\n y = Conv(r, c4x8k1)"),
    "bounds that constants make": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Max(a, low)\n s = Min(r, high)\n y = Conv(s, c4x8k1)",
    ),
    "slopes": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = LeakyRelu <alpha = 0.3> (a)\n s = PRelu(r, slopes)\n y = Conv(s, c4x8k1)",
    ),
    "groups": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Relu(a)\n g = Conv <group = 2> (r, c8x4k1, e8)\n s = Relu(g)\n"
        " y = Conv(s, c4x8k1)",
    ),
    "transposed": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Relu(a)\n t = ConvTranspose <group = 2, strides = [2, 2]> (r, t8x2k2, e4)\n"
        " y = ConvTranspose(t, t4x3k1)",
    ),
    "a stream": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Relu(a)\n u = Conv(r, c8x8k1, e8)\n s = Add(u, a)\n v = Relu(s)\n"
        " w = Conv(v, d8x8k1)\n m = Sum(s, w, b8high)\n y = Conv(m, c4x8k1)",
    ),
    "a gate": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Relu(a)\n g = GlobalAveragePool(r)\n h = Conv(g, c8x8k1, e8)\n"
        " i = HardSigmoid(h)\n m = Mul(r, i)\n y = Conv(m, c4x8k1)",
    ),
    "pools": (
        "net (float[N, 3, 8, 8] x) => (float[N, M] y)",
        "a = Conv(x, c8x3k3, b8)\n p = MaxPool <kernel_shape = [2, 2]> (a)\n"
        " q = AveragePool <kernel_shape = [2, 2]> (p)\n g = GlobalAveragePool(q)\n f = Flatten(g)\n"
        " y = Gemm <transB = 1, alpha = 0.5> (f, g5x8, b5)",
    ),
    "spread over places": (
        "net (float[N, 3, 8, 8] x) => (float[N, M] y)",
        "a = Conv(x, c8x3k3, b8)\n p = MaxPool <kernel_shape = [3, 3], strides = [3, 3]> (a)\n f = Reshape(p, rows)\n"
        " y = Gemm(f, g32x5, b5)",
    ),
    "a mean": (
        "net (float[N, 3, 8, 8] x) => (float[N, M] y)",
        "a = Conv(x, c8x3k3, b8)\n p = ReduceMean <axes = [2, 3], keepdims = 0> (a)\n y = MatMul(p, m8x5)",
    ),
    "products": (
        ROWS,
        "a = MatMul(x, m6x8)\n s = Add(a, b8)\n r = Relu(s)\n u = Gemm(r, m8x8, one)\n v = Relu(u)\n"
        " y = MatMul(v, m8x5)",
    ),
    "side by side": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n b = Conv(x, d8x3k3)\n r = Relu(b)\n j = Concat <axis = 1> (a, r)\n"
        " y = Conv(j, c4x16k1)",
    ),
    "a shuffle": (IMAGE, SHUFFLE),
    "parts": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n p = Slice(a, from, to, on)\n q = Gather <axis = 1> (a, picked)\n s = Add(p, q)\n"
        " y = Conv(s, c4x4k1)",
    ),
    "channels of zeros": (
        IMAGE,
        "a = Conv(x, c4x3k3)\n p = Pad(a, around)\n b = Conv(x, c8x3k3, b8)\n s = Add(p, b)\n y = Conv(s, c4x8k1)",
    ),
    "a finer grid": (
        IMAGE,
        'a = Conv(x, c8x3k3, b8)\n p = Resize <mode = "linear"> (a, , twice)\n y = Conv(p, c4x8k1)',
    ),
    "a signal": (
        "net (float[N, 3, 9] x) => (float[N, A, B] y)",
        "a = Conv(x, s8x3k3, b8)\n r = Relu(a)\n y = Conv(r, s4x8k1)",
    ),
    "a volume": (
        "net (float[N, 3, 4, 4, 4] x) => (float[N, A, B, C, D] y)",
        "a = Conv(x, v8x3k2, b8)\n r = Relu(a)\n y = Conv(r, v4x8k1)",
    ),
    "a weight that two read": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Relu(a)\n u = Conv(r, c8x8k1, b8)\n v = Relu(u)\n w = Conv(v, c8x8k1, b8)\n"
        " y = Conv(w, c4x8k1)",
    ),
    "a product with a constant": (
        IMAGE,
        "a = Conv(x, c8x3k3, b8)\n r = Mul(a, b8high)\n d = Div(r, six)\n e = Sub(d, low)\n i = Identity(e)\n"
        " y = Conv(i, c4x8k1)",
    ),
}


def constants(names: set[str]) -> dict[str, Array]:
    """Weights `<kind><outputs>x<inputs>k<kernel>`, and the others by name; channels differ by up to 100 times."""
    draw = np.random.default_rng(3)

    def weight(*shape: int) -> Array:
        spread = 10 ** draw.uniform(-1, 1, (shape[0], *(1,) * (len(shape) - 1)))
        return np.asarray(draw.normal(size=shape) * spread, np.float32)

    made: dict[str, Array] = {
        "c8x3k3": weight(8, 3, 3, 3), "d8x3k3": weight(8, 3, 3, 3), "c4x3k3": weight(4, 3, 3, 3),
        "c8x1k3": weight(8, 1, 3, 3), "c4x8k1": weight(4, 8, 1, 1), "c8x8k1": weight(8, 8, 1, 1),
        "d8x8k1": weight(8, 8, 1, 1), "c8x4k1": weight(8, 4, 1, 1), "c4x4k1": weight(4, 4, 1, 1),
        "c4x16k1": weight(4, 16, 1, 1), "t8x2k2": weight(8, 2, 2, 2), "t4x3k1": weight(4, 3, 1, 1),
        "s8x3k3": weight(8, 3, 3), "s4x8k1": weight(4, 8, 1), "v8x3k2": weight(8, 3, 2, 2, 2),
        "v4x8k1": weight(4, 8, 1, 1, 1), "g5x8": weight(5, 8), "g32x5": weight(32, 5), "m6x8": weight(6, 8),
        "m8x8": weight(8, 8), "m8x5": weight(8, 5),
        "b8": weight(8), "e8": weight(8), "e4": weight(4), "b5": weight(5), "b8high": weight(8, 1, 1),
        "slopes": np.asarray(draw.normal(size=(8, 1, 1)), np.float32),
        "two_groups": np.asarray([0, 2, 4, 6, 6]), "eight": np.asarray([0, 8, 6, 6]),
        "four_four": np.asarray([4, 4]), "rows": np.asarray([-1, 32]), "from": np.asarray([1]), "to": np.asarray([5]),
        "on": np.asarray([1]), "picked": np.asarray([7, 0, 2, -1]), "around": np.asarray([0, 1, 0, 0, 0, 3, 0, 0]),
        "twice": np.asarray([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    scalars = {"zero": 0, "one": 1, "six": 6, "low": -1, "high": 2}
    made |= {name: np.asarray(value, np.float32) for name, value in scalars.items()}
    return {name: made[name] for name in made if name in names}


def network(name: str) -> onnx.ModelProto:
    """One of the networks."""
    return written(*NETWORKS[name])


def written(head: str, body: str) -> onnx.ModelProto:
    """A network of these constants."""
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return onnx_text(f"{head} {{ {body} }}", **constants(words))


def data(proto: onnx.ModelProto, count: int = 4, seed: int = 0) -> dict[str, Array]:
    """Samples of each input."""
    draw = np.random.default_rng(seed)
    return {
        value.name: draw.normal(size=[dim.dim_value or count for dim in value.type.tensor_type.shape.dim]).astype(
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        )
        for value in proto.graph.input
    }
