"""Every operator that the forecast has a rule for, against ONNX Runtime on a few hundred inputs with known statistics.

An operator reads `b`, a Gaussian field whose channels have means and deviations of their own, and in some cases `v`,
another one. Held against what the runtime computes are the mean and the deviation of the result, channel by channel
where the forecast tells channels apart, and what a small error of its operand becomes: white noise, and noise that all
places of an image share, which no averaging over them makes smaller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array, as_model, versioned_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.outputs.output_kind import find_outputs
from onnxlint_q.forecast.backward import output_costs
from onnxlint_q.forecast.ends import find_ends
from onnxlint_q.forecast.forward import RULES, propagate
from onnxlint_q.forecast.population import IMAGE_SHARE, IMAGES, POSITIONS
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import find_layers

LAYERS = ("Conv", "ConvTranspose", "Gemm")
"""Beside the table: a node with a constant weight has one rule, whatever its operator. MatMul is in both."""
RUNS, NOISE = 768, 0.02
# Next to each other 0.5 and across a corner 0.26, as in trained networks (`population`).
_SMOOTH = np.array([0.3, 1.0, 0.3])


@dataclass(frozen=True)
class Case:
    """One use of an operator.

    Attributes:
        body: from `b` (and `v`) to `y`.
        arrays: constants that it names.
        shape: of `b` and `v`, without the batch.
        mean, scale: what the channels of `b` are about, and their deviations; by default all differ.
        opset: 20 knows every operator but a few.
        mean_off: how far the mean may be off, in parts of the root mean square.
        spread_off, gain_off: how far deviation and error may be off, dB. The error is found with random signs on 48
            images, which alone puts it off by up to 2 dB.
        noise: deviation of the error.
        one_by_one: its indices are those of a batch of one.
    """

    body: str
    arrays: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (6, 8, 8)
    mean: Any = None
    scale: Any = None
    opset: int = 20
    mean_off: float = 0.1
    spread_off: float = 1.0
    gain_off: float = 2.0
    noise: float = NOISE
    one_by_one: bool = False


def unary(op_type: str, attributes: str = "", **how: Any) -> Case:
    return Case(f"y = {op_type} {attributes}(b)", **how)


def binary(op_type: str, **how: Any) -> Case:
    return Case(f"y = {op_type}(b, v)", **how)


def positive(op_type: str, **how: Any) -> Case:
    return unary(op_type, mean=3.0, scale=0.5, **how)


def weight(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


INDEX = {"far": np.array([5, 0, 3])}
AXIS = {"axis": np.array([2])}
PLACES = {"places": np.array([2, 3])}
CHANNELS = {"channels": np.array([1])}
GRID = {"grid": np.random.default_rng(0).uniform(-0.9, 0.9, (1, 5, 5, 2)).astype(np.float32)}

CASES: Mapping[str, tuple[Case, ...]] = {
    # One function of one value.
    **{
        op_type: (unary(op_type),)
        for op_type in (
            *("Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Celu", "Mish"),
            *("Softplus", "Softsign", "Erf", "Abs", "Neg", "Sin", "Cos", "Identity", "Dropout"),
        )
    },
    **{op_type: (positive(op_type),) for op_type in ("Log", "Sqrt", "Reciprocal")},
    "Exp": (unary("Exp", mean=0.0, scale=0.5),),
    "Selu": (unary("Selu", mean=-1.0),),
    "Gelu": (unary("Gelu"), unary("Gelu", '<approximate = "tanh"> ')),
    "Swish": (unary("Swish", "<alpha = 1.5> ", opset=24),),
    "ThresholdedRelu": (unary("ThresholdedRelu", "<alpha = 0.1> "),),
    "Clip": (Case("y = Clip(b, low, high)", {"low": np.float32(-0.5), "high": np.float32(1)}),),
    "Cast": (Case("h = Cast <to = 10> (b)  y = Cast <to = 1> (h)"),),
    # Codes 0.03 apart: the error is as large as a few of them.
    **{
        op_type: (Case("q = QuantizeLinear(b, s, z)  y = DequantizeLinear(q, s, z)", CODES, scale=0.5, noise=0.2),)
        for CODES in ({"s": np.float32(0.03), "z": np.int8(0)},)
        for op_type in ("QuantizeLinear", "DequantizeLinear")
    },
    # Several values.
    **{op_type: (binary(op_type),) for op_type in ("Add", "Sum", "Sub", "Mul", "Max", "Min")},
    "Div": (
        Case("u = Mul(v, small)  w = Add(u, two)  y = Div(b, w)", {"small": np.float32(0.2), "two": np.float32(2)}),
    ),
    "Pow": (Case("y = Pow(b, k)", {"k": np.float32(1.5)}, mean=3.0, scale=0.5), Case("y = Pow(b, k)", {"k": 2.0})),
    "PRelu": (Case("y = PRelu(b, k)", {"k": np.linspace(-0.5, 1, 6, dtype=np.float32).reshape(6, 1, 1)}),),
    **{
        op_type: (Case(f"c = {op_type}(b, v)  y = Cast <to = 1> (c)", opset=20),)
        for op_type in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    "Not": (Case("c = Greater(b, v)  n = Not(c)  y = Cast <to = 1> (n)"),),
    "ReverseSequence": (
        Case(
            "y = ReverseSequence <batch_axis = 0, time_axis = 1> (b, lengths)",
            {"lengths": np.array([6])},
            one_by_one=True,
        ),
    ),
    "Equal": (Case("i = Greater(b, v)  j = Greater(v, b)  c = Equal(i, j)  y = Cast <to = 1> (c)"),),
    **{
        op_type: (
            Case(
                f"i = Greater(b, zero)  j = Greater(v, zero)  c = {op_type}(i, j)  y = Cast <to = 1> (c)",
                ZERO,
                spread_off=1.5,
            ),
        )
        for ZERO in ({"zero": np.float32(0)},)
        for op_type in ("And", "Or", "Xor")
    },
    "Where": (
        Case(
            "c = Greater(v, zero)  n = Mul(b, two)  y = Where(c, b, n)", {"zero": np.float32(0), "two": np.float32(2)}
        ),
        Case("y = Where(m, b, v)", {"m": np.array([True, False] * 3).reshape(6, 1, 1)}),
    ),
    # The same values elsewhere.
    "Transpose": (unary("Transpose", "<perm = [0, 2, 1, 3]> "),),
    "Concat": (Case("y = Concat <axis = 1> (b, v)"),),
    "Split": (Case("y, z = Split <axis = 1, num_outputs = 2> (b)"),),
    "Slice": (
        Case("y = Slice(b, start, end, axis)", {"start": np.array([1]), "end": np.array([4]), "axis": np.array([1])}),
    ),
    "Gather": (
        Case("y = Gather <axis = 1> (b, far)", INDEX),
        Case("i = Greater(v, zero)  n = Cast <to = 7> (i)  y = Gather(table, n)", {"zero": np.float32(0)}),
    ),
    "Reshape": (
        Case(
            "r = Reshape(b, apart)  t = Transpose <perm = [0, 2, 1, 3, 4]> (r)  y = Reshape(t, together)",
            {"apart": np.array([0, 2, 3, 8, 8]), "together": np.array([0, 6, 8, 8])},
        ),
    ),
    # A product behind it reads each place with weights of its own: fewer places than an image has positions, and more.
    # What neighbours have in common is not kept, so that the deviation of a single result is off.
    "Flatten": (
        unary("Flatten", shape=(6, 3, 3)),
        *(
            Case(
                "f = Flatten(b)  y = MatMul(f, w)", {"w": weight(6 * places**2, 4)}, (6, places, places), spread_off=3.0
            )
            for places in (2, 3, 4, 5)
        ),
        Case(
            "t = Transpose <perm = [0, 2, 3, 1]> (b)  f = Flatten(t)  y = MatMul(f, w)",
            {"w": weight(6 * 16, 4)},
            (6, 4, 4),
            spread_off=3.0,
        ),
    ),
    **{op_type: (Case("u = Unsqueeze(b, axis)  y = Squeeze(u, axis)", AXIS),) for op_type in ("Unsqueeze", "Squeeze")},
    "Expand": (Case("y = Expand(b, wide)", {"wide": np.array([1, 6, 8, 8])}, shape=(6, 1, 1)),),
    "Tile": (Case("y = Tile(b, times)", {"times": np.array([1, 1, 2, 3])}),),
    "Resize": (Case('y = Resize <mode = "nearest"> (b, , double)', {"double": np.array([1, 1, 2, 2], np.float32)}),),
    "Upsample": (Case("y = Upsample(b, double)", {"double": np.array([1, 1, 2, 2], np.float32)}, opset=9),),
    "Pad": (
        Case("y = Pad(b, around)", {"around": np.array([0, 0, 0, 0, 0, 0, 0, 0])}),
        Case("y = Pad(b, around)", {"around": np.array([0, 1, 0, 0, 0, 2, 0, 0])}),
    ),
    # One of the channels that meet in a new one stands for all: they have to be alike.
    "DepthToSpace": (
        unary("DepthToSpace", "<blocksize = 2> ", shape=(8, 4, 4), mean=[1, 3] * 4, scale=[0.5, 2] * 4),
        unary(
            "DepthToSpace",
            '<blocksize = 2, mode = "CRD"> ',
            shape=(8, 4, 4),
            mean=[1] * 4 + [3] * 4,
            scale=[0.5] * 4 + [2] * 4,
        ),
    ),
    "SpaceToDepth": (unary("SpaceToDepth", "<blocksize = 2> "),),
    # Single elements: of channels, which are told apart, and of places, which are not.
    "ScatterND": (
        Case(
            "p = Gather <axis = 1> (v, pair)  y = ScatterND(b, at, p)",
            {"pair": np.array([2, 3]), "at": np.array([[[0, 4], [0, 1]]])},
            one_by_one=True,
        ),
        Case(
            "p = Gather <axis = 2> (v, near)  y = ScatterND(b, at, p)",
            {"near": np.arange(4), "at": np.stack(np.meshgrid([0], range(6), range(4), indexing="ij"), -1)},
            spread_off=2.0,
            one_by_one=True,
        ),
    ),
    "ScatterElements": (
        Case(
            "p = Gather <axis = 1> (v, pair)  y = ScatterElements <axis = 1> (b, at, p)",
            {"pair": np.array([2, 3]), "at": np.broadcast_to(np.array([4, 1])[:, None, None], (1, 2, 8, 8))},
            one_by_one=True,
        ),
    ),
    "GatherElements": (
        Case("y = GatherElements <axis = 1> (b, at)", {"at": np.full((1, 6, 8, 8), 4)}, one_by_one=True),
        Case(
            "y = GatherElements <axis = 1> (b, at)",
            {"at": np.broadcast_to(np.array([5, 0, 3])[:, None, None], (1, 3, 8, 8))},
            one_by_one=True,
        ),
        Case("y = GatherElements <axis = 2> (b, at)", {"at": np.full((1, 6, 2, 8), 3)}, one_by_one=True),
    ),
    "GatherND": (
        Case("y = GatherND(b, at)", {"at": np.array([[[0, 4], [0, 1]]])}, one_by_one=True),
        Case(
            "t = Transpose <perm = [2, 3, 1, 0]> (b)  p = GatherND(t, at)  y = Transpose <perm = [2, 0, 1]> (p)",
            {"at": np.array([[2, 3], [5, 1]])},
            one_by_one=True,
        ),
    ),
    "TopK": (
        Case("y, i = TopK <axis = 1> (b, three)", {"three": np.array([3])}),
        Case("y, i = TopK <axis = 2> (b, all)", {"all": np.array([16])}, shape=(6, 16), spread_off=2.0),
    ),
    "CumSum": (
        Case("y = CumSum(b, channel)", {"channel": np.array(1)}),
        Case("y = CumSum <reverse = 1, exclusive = 1> (b, channel)", {"channel": np.array(1)}),
        Case("y = CumSum(b, place)", {"place": np.array(2)}, shape=(6, 8)),
    ),
    "Trilu": (Case("r = Reshape(b, square)  y = Trilu <upper = 0> (r)", {"square": np.array([0, 2, 3])}, shape=(6,)),),
    "OneHot": (
        Case(
            "i = Greater(b, zero)  n = Cast <to = 7> (i)  y = OneHot <axis = 1> (n, two, values)",
            {"zero": np.float32(0), "two": np.array(2), "values": np.array([0, 1], np.float32)},
        ),
    ),
    # A place between pixels is a mean, which varies less.
    "GridSample": (
        Case('y = GridSample <mode = "nearest"> (b, grid)', GRID, one_by_one=True),
        Case("y = GridSample(b, grid)", GRID, spread_off=2.5, one_by_one=True),
        Case(
            "u = Mul(v, third)  p = Gather <axis = 1> (u, pair)  t = Transpose <perm = [0, 2, 3, 1]> (p)"
            "  y = GridSample(b, t)",
            {"third": np.float32(0.3), "pair": np.array([0, 1])},
            shape=(6, 16, 16),
            spread_off=2.5,
        ),
    ),
    # Lists.
    **{
        op_type: (Case("l = SplitToSequence <axis = 2> (b)  y = ConcatFromSequence <axis = 2> (l)"),)
        for op_type in ("SplitToSequence", "ConcatFromSequence")
    },
    **{
        op_type: (
            Case("n = SequenceEmpty()  l = SequenceInsert(n, b)  y = SequenceAt(l, first)", {"first": np.array(0)}),
        )
        for op_type in ("SequenceInsert", "SequenceAt")
    },
    # Means, extremes and norms.
    "BatchNormalization": (
        Case(
            "y = BatchNormalization(b, gamma, beta, mean, var)",
            {
                "gamma": np.linspace(0.5, 2, 6, dtype=np.float32),
                "beta": np.linspace(-1, 1, 6, dtype=np.float32),
                "mean": np.linspace(-0.5, 2, 6, dtype=np.float32),
                "var": np.linspace(0.5, 1.5, 6, dtype=np.float32) ** 2,
            },
        ),
    ),
    # Eight positions stand for all 64 places: a mean over them keeps a little more of the deviation, and the largest of
    # them is less far out.
    "GlobalAveragePool": (unary("GlobalAveragePool", spread_off=2.5),),
    "ReduceMean": (
        Case("y = ReduceMean(b, places)", PLACES, spread_off=2.5),
        Case("y = ReduceMean(b, channels)", CHANNELS),
    ),
    "ReduceSum": (
        Case("y = ReduceSum(b, places)", PLACES, spread_off=2.5),
        Case("y = ReduceSum(b, channels)", CHANNELS),
    ),
    "ReduceMax": (
        Case("y = ReduceMax(b, channels)", CHANNELS),
        Case("y = ReduceMax(b, places)", PLACES, mean_off=0.5, spread_off=3.5, gain_off=3.5),
    ),
    "ReduceMin": (
        Case("y = ReduceMin(b, channels)", CHANNELS),
        Case("y = ReduceMin(b, places)", PLACES, mean=-2.0, mean_off=0.5, spread_off=3.5, gain_off=3.5),
    ),
    "GlobalMaxPool": (unary("GlobalMaxPool", mean_off=0.5, spread_off=3.5, gain_off=3.5),),
    "ReduceSumSquare": (
        Case("y = ReduceSumSquare(b, channels)", CHANNELS),
        Case("y = ReduceSumSquare(b, places)", PLACES, spread_off=5.5),
    ),
    "ReduceL2": (Case("y = ReduceL2(b, channels)", CHANNELS), Case("y = ReduceL2(b, places)", PLACES, spread_off=5.5)),
    # What the taps of a kernel read is alike as it mostly is in trained networks, not as it is here.
    "AveragePool": (unary("AveragePool", "<kernel_shape = [3, 3]> "),),
    "MaxPool": (
        unary("MaxPool", "<kernel_shape = [2, 2]> ", spread_off=1.5),
        unary("MaxPool", "<kernel_shape = [3, 3]> ", spread_off=1.5),
    ),
    "LayerNormalization": (
        Case(
            "t = Transpose <perm = [0, 2, 1]> (b)  y = LayerNormalization(t, gamma, beta)",
            {"gamma": np.linspace(0.5, 2, 6, dtype=np.float32), "beta": np.linspace(-1, 1, 6, dtype=np.float32)},
            shape=(6, 9),
        ),
    ),
    "InstanceNormalization": (
        Case("y = InstanceNormalization(b, gamma, gamma)", {"gamma": np.linspace(0.5, 2, 6, dtype=np.float32)}),
    ),
    # Not the last node: there the first class leads, see below.
    "Softmax": (Case("p = Softmax <axis = 1> (b)  y = Mul(p, ten)", {"ten": np.float32(10)}),),
    "LogSoftmax": (Case("p = LogSoftmax <axis = 1> (b)  y = Mul(p, ten)", {"ten": np.float32(10)}),),
    "MatMul": (
        # Tokens meet tokens, as queries meet keys; keys meet values; all tokens are summed up. Tokens that are the same
        # to all queries of an image are those of 48 images, and eight of 32 average less than all.
        Case("t = Transpose <perm = [0, 2, 1]> (b)  y = MatMul(t, v)", shape=(6, 8), mean_off=0.3, spread_off=1.5),
        Case(
            "t = Transpose <perm = [0, 2, 1]> (b)  s = MatMul(t, v)  q = Mul(s, small)  p = Softmax(q)"
            "  y = MatMul(p, t)",
            {"small": np.float32(0.3)},
            shape=(6, 8),
            spread_off=1.5,
        ),
        Case(
            "t = Transpose <perm = [0, 2, 1]> (b)  s = MatMul(t, v)  q = Mul(s, small)  p = Softmax(q)"
            "  y = MatMul(p, t)",
            {"small": np.float32(0.3)},
            shape=(6, 32),
            spread_off=3.0,
            gain_off=4.0,
        ),
        Case(
            "t = Transpose <perm = [0, 2, 1]> (v)  y = MatMul(b, t)",
            shape=(6, 32),
            mean_off=0.4,
            spread_off=6.0,
            gain_off=4.0,
        ),
        Case("t = Transpose <perm = [0, 2, 1]> (b)  y = MatMul(t, w)", {"w": weight(6, 4)}, shape=(6, 9)),
    ),
    # Nine steps, for which the eight positions of an image stand.
    **{
        op_type: (
            Case(
                f"t = Transpose <perm = [2, 0, 1]> (b)  s = {op_type} <hidden_size = 4, {direction}> (t, w, r, c)"
                "  y = Transpose <perm = [2, 1, 3, 0]> (s)",
                {
                    "w": weight(directions, 4 * gates, 6) / 3,
                    "r": weight(directions, 4 * gates, 4) / 3,
                    "c": weight(directions, 8 * gates) / 3,
                },
                shape=(6, 9),
                spread_off=1.5,
            ),
        )
        for op_type, gates, direction, directions in (
            ("LSTM", 4, 'direction = "bidirectional"', 2),
            ("GRU", 3, "linear_before_reset = 1", 1),
            ("RNN", 1, 'direction = "reverse"', 1),
        )
    },
    # Layers.
    "Conv": (
        Case("y = Conv(b, w)", {"w": weight(4, 6, 1, 1)}),
        Case("y = Conv(b, w, c)", {"w": weight(4, 6, 3, 3), "c": weight(4)}, spread_off=1.5),
        Case("y = Conv <group = 6> (b, w)", {"w": weight(6, 1, 3, 3)}, spread_off=1.5),
    ),
    # Each place of the result reads one of the taps; what the forecast reads is alike for all of them.
    "ConvTranspose": (
        Case(
            "y = ConvTranspose <strides = [2, 2]> (b, w)",
            {"w": weight(6, 4, 2, 2)},
            mean=0.0,
            spread_off=2.5,
            gain_off=5.0,
        ),
    ),
    "Gemm": (
        Case("y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (b, w, c)", {"w": weight(4, 6), "c": weight(4)}, (6,)),
    ),
}


def gaussian(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Unit Gaussian fields; a share of the variance is an image's own, and neighbours on a plane are alike."""
    within = draw.standard_normal((RUNS, *shape))
    for axis in range(2, 4) if len(shape) == 3 and min(shape[1:]) > 2 else ():
        around = (np.roll(within, step, axis) for step in (-1, 0, 1))
        within = sum(w * a for w, a in zip(_SMOOTH, around, strict=True)) / np.linalg.norm(_SMOOTH)
    between = draw.standard_normal((RUNS, shape[0], *(1,) * (len(shape) - 1)))
    return np.asarray(np.sqrt(IMAGE_SHARE) * between + np.sqrt(1 - IMAGE_SHARE) * within, np.float32)


def moments(values: Array, apart: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and deviation of runs, for each of the places that are told `apart`; of all if these are others."""
    told = len(apart) == values.ndim - 1 and all(a in {1, b} for a, b in zip(apart, values.shape[1:], strict=True))
    axes = (0, *(n for n, length in enumerate(apart, start=1) if length == 1)) if told else tuple(range(values.ndim))
    values = values.astype(np.float64)
    return values.mean(axis=axes, keepdims=True)[0], values.std(axis=axes, keepdims=True)[0]


def decibel(found: float, wanted: float, least: float = 1e-30) -> float:
    return float(10 * np.log10(max(found, least) / max(wanted, least)))


def runner(proto: onnx.ModelProto, one_by_one: bool) -> Callable[[Mapping[str, Array]], Array]:
    """The first output of a model; by the reference of ONNX where the runtime is older than the operator."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options)
    except Exception:
        session = ReferenceEvaluator(proto)
    names = {value.name for value in proto.graph.input}

    def run(feeds: Mapping[str, Array]) -> Array:
        read = {key: feeds[key] for key in feeds.keys() & names}
        if not one_by_one:
            return np.asarray(session.run(None, read)[0])
        rows = [session.run(None, {key: values[n : n + 1] for key, values in read.items()})[0] for n in range(RUNS)]
        return np.concatenate(rows)

    return run


def built(case: Case) -> onnx.ModelProto:
    channels, wide = case.shape[0], (1, case.shape[0], *(1,) * (len(case.shape) - 1))
    mean = np.linspace(-0.5, 2, channels) if case.mean is None else np.broadcast_to(np.float32(case.mean), channels)
    scale = np.linspace(0.5, 1.5, channels) if case.scale is None else np.broadcast_to(np.float32(case.scale), channels)
    arrays = {**case.arrays, "mean0": mean.reshape(wide), "scale0": scale.reshape(wide)}
    shape = ", ".join(map(str, case.shape))
    inputs = f"float[N, {shape}] x" + f", float[N, {shape}] v" * bool(re.search(r"\bv\b", case.body))
    text = f"g ({inputs}) => (y) {{ a = Mul(x, scale0)  b = Add(a, mean0)  {case.body} }}"
    if "table" in case.body:
        arrays["table"] = weight(2, 4)
    typed = {key: np.asarray(a, np.float32 if np.asarray(a).dtype == np.float64 else None) for key, a in arrays.items()}
    return onnx.shape_inference.infer_shapes(versioned_text(case.opset, "", text, **typed))


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert set(CASES) == {*RULES, *LAYERS}


@pytest.mark.parametrize(
    ("op_type", "case"),
    [pytest.param(name, case, id=f"{name}-{n}") for name, cases in CASES.items() for n, case in enumerate(cases)],
)
def test_an_operator_does_to_signal_and_error_what_it_does_when_it_runs(op_type: str, case: Case) -> None:
    proto = built(case)
    assert op_type in {node.op_type for node in proto.graph.node}
    model, run, draw = as_model(proto), runner(proto, case.one_by_one), np.random.default_rng(0)
    found = propagate(model, fold_batch_norms(model, list(find_layers(model))).layers)
    assert not found.unknown and not found.failures
    feeds = {key: gaussian(draw, case.shape) for key in ("x", "v")}
    wanted = run(feeds)
    samples = found.samples["y"]
    size = np.sqrt(float((wanted.astype(np.float64) ** 2).mean()))
    (mean, spread), (wanted_mean, wanted_spread) = (moments(v, samples.shape[2:]) for v in (samples[:, 0], wanted))
    assert float(np.abs(mean - wanted_mean).max()) <= case.mean_off * size
    off = [2 * decibel(a, b) for a, b in zip(spread.ravel(), wanted_spread.ravel(), strict=True)]
    assert max(map(abs, off)) <= case.spread_off, off
    costs, failures = output_costs(model, found, find_ends(find_outputs(model), found.samples))
    assert not failures
    scale = dict(zip((t.name for t in proto.graph.initializer), proto.graph.initializer, strict=True))["scale0"]
    for fed, key, unit in (("x", "b", onnx.numpy_helper.to_array(scale)), ("v", "v", np.float32(1))):
        if key not in costs:
            continue
        white = draw.standard_normal(feeds[fed].shape) * case.noise
        shared = draw.standard_normal((RUNS, *case.shape[:1], *(1,) * (len(case.shape) - 1))) * case.noise
        for error, predicted in ((white, costs[key].white.mean()), (shared, of_shared(costs[key]))):
            moved = run({**feeds, fed: np.asarray(feeds[fed] + error / unit, np.float32)})
            made = float(((moved.astype(np.float64) - wanted) ** 2).mean())
            # What is 40 dB below the error, as a mean that is subtracted, is nothing.
            gain, ran = predicted * size**2, made / case.noise**2
            assert abs(decibel(gain, ran, 1e-4)) <= case.gain_off, (key, gain, ran)


def of_shared(cost: OutputCost) -> float:
    """Noise over signal for errors of unit variance, one for each channel of an image, at all its places."""
    sums = cost.rows.reshape(IMAGES, POSITIONS, -1).sum(axis=1, dtype=np.float64)
    return float(np.vdot(sums, sums)) / IMAGES


def test_a_model_that_ends_in_probabilities_is_sure_of_its_first_class() -> None:
    """Among a thousand Gaussian scores none leads; inside of a model they stay as they are."""

    def first(end: str) -> Array:
        text = f"g (float[1, 1000] x) => (float[1, 1000] y) {{ b = Mul(x, three)  {end} }}"
        samples = propagate(as_model(versioned_text(17, "", text, three=np.float32(3))), []).samples
        last = samples["p" if "p" in samples else "y"]
        assert last.sum(axis=-1) == pytest.approx(1, abs=1e-4)
        return np.asarray(last.max(axis=-1))

    assert first("p = Softmax(b)  y = Mul(p, three)").mean() < 0.3
    assert first("y = Softmax(b)").mean() == pytest.approx(0.65, abs=0.01)
