"""Alignment of two graphs: what is the same, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.pairing.match import Pairing, pair
from onnxlint_q.analysis.pairing.skeleton import Skeleton, skeleton
from onnxlint_q.errors import ModelError
from onnxlint_q.graph import find_layers, find_quantized_tensors

RNG = np.random.default_rng(11)
W1, W2 = (RNG.normal(size=(4, 4, 3, 3)).astype(np.float32) for _ in range(2))
HEAD = "agraph (float[1, 4, 8, 8] x) => (float[1, 4, 4, 4] y)"


def skeleton_of(proto: onnx.ModelProto) -> Skeleton:
    model = as_model(proto)
    return skeleton(
        model, fold_batch_norms(model, list(find_layers(model))).layers, list(find_quantized_tensors(model))
    )


def paired(first: onnx.ModelProto, second: onnx.ModelProto) -> Pairing:
    return pair(skeleton_of(first), skeleton_of(second))


def nodes(found: Pairing) -> dict[str, str]:
    return {entry.quantized.node.output: entry.reference.node.output for entry in found.operations}


def test_rectifiers_and_pairs_and_biases_vanish() -> None:
    text = f"{HEAD} {{ a = Conv(x, w)  b = Add(a, k)  c = Relu(b)  y = Conv(c, v) }}"
    plain = onnx_text(text, w=W1, v=W2, k=np.ones((4, 1, 1), np.float32))
    qdq = onnx_text(
        f"""{HEAD} {{ q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  e = Conv(d, w, k)
        f = QuantizeLinear(e, s, z)  g = DequantizeLinear(f, s, z)  y = Conv(g, v) }}""",
        w=W1,
        v=W2,
        k=np.ones(4, np.float32),
        s=np.float32(0.1),
        z=np.uint8(0),
    )
    found = paired(plain, qdq)
    assert nodes(found) == {"e": "a", "y": "y"} and not found.lost_quantized and not found.lost_reference
    held = [found.reference.values[found.values[value]].tensors[0] for value in found.values]
    assert held == ["x", "c", "y"]
    assert [found.quantized.values[value].quantized is not None for value in found.values] == [True, True, False]


def test_the_same_weight_twice_is_told_apart_by_where_it_stands() -> None:
    text = f"{HEAD} {{ a = Conv(x, w)  b = Sigmoid(a)  y = Conv(b, w) }}"
    found = paired(onnx_text(text, w=W1), onnx_text(text, w=W1))
    assert nodes(found) == {"a": "a", "b": "b", "y": "y"}


def test_twins_stay_alone() -> None:
    text = f"{HEAD} {{ a = Conv(x, w)  b = Conv(x, w)  c = Sigmoid(a)  d = Tanh(b)  y = Conv(x, v) }}"
    found = paired(onnx_text(text, w=W1, v=W2), onnx_text(text, w=W1, v=W2))
    assert nodes(found) == {"y": "y"}
    assert [op.node.output for op in found.lost_quantized] == ["a", "b", "c", "d"]


def test_slices_of_one_tensor_are_told_apart_by_their_numbers() -> None:
    def model(names: tuple[str, str]) -> onnx.ModelProto:
        first, second = names
        text = f"""{HEAD} <int64[1] o = {{0}}, int64[1] t = {{2}}, int64[1] f = {{4}}, int64[1] one = {{1}}>
        {{ {first} = Slice(x, o, t, one)  {second} = Slice(x, t, f, one)  c = Concat<axis = 1>({first}, {second})
        y = Conv(c, w) }}"""
        return onnx_text(text, w=W1)

    assert nodes(paired(model(("p", "q")), model(("m", "n")))) == {"m": "p", "n": "q", "c": "c", "y": "y"}


def test_addends_may_be_swapped() -> None:
    first = onnx_text(f"{HEAD} {{ a = Conv(x, w)  b = Conv(x, v)  y = Add(a, b) }}", w=W1, v=W2)
    second = onnx_text(f"{HEAD} {{ a = Conv(x, v)  b = Conv(x, w)  y = Add(a, b) }}", w=W1, v=W2)
    assert nodes(paired(first, second)) == {"a": "b", "b": "a", "y": "y"}


def test_a_scale_a_channel_and_noise_leave_the_likeness() -> None:
    gain = np.geomspace(0.01, 100, 4).astype(np.float32).reshape(-1, 1, 1, 1)
    noisy = (W1 * gain + RNG.normal(scale=0.05, size=W1.shape) * gain).astype(np.float32)
    text = f"{HEAD} {{ y = Conv(x, w) }}"
    (entry,) = paired(onnx_text(text, w=W1), onnx_text(text, w=noisy)).operations
    assert entry.likeness is not None and entry.likeness > 0.99


def test_two_networks_of_one_architecture_are_refused() -> None:
    text = f"{HEAD} {{ a = Conv(x, w)  y = Conv(a, v) }}"
    other = RNG.normal(size=(2, 4, 4, 3, 3)).astype(np.float32)
    with pytest.raises(ModelError, match="these are two networks"):
        paired(onnx_text(text, w=W1, v=W2), onnx_text(text, w=other[0], v=other[1]))
    with pytest.raises(ModelError, match="has 2 inputs"):
        two = "agraph (float[1, 4, 8, 8] x, float[1] z) => (float[1, 4, 4, 4] y) { y = Conv(x, w) }"
        paired(onnx_text(text, w=W1, v=W2), onnx_text(two, w=W1))
