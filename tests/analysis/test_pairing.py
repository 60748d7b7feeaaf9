"""Alignment of two graphs: what is the same, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text, versioned_text

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


M1, M2 = (RNG.normal(size=(8, 8)).astype(np.float32) for _ in range(2))
ROWS = "agraph (float[2, 4, 8] x) => (float[2, 4, 8] y)"


def test_a_fused_operator_is_paired_with_what_it_stands_for() -> None:
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    plain = onnx_text(
        f"""{ROWS} {{ a = MatMul(x, w)  b = Add(a, x)  c = LayerNormalization(b, g, k)  d = Erf(c)
        e = Mul(c, d)  y = MatMul(e, v) }}""",
        w=M1,
        v=M2,
        g=one,
        k=zero,
    )
    text = """a = MatMul(x, w)  c = com.microsoft.SkipLayerNormalization(a, x, g, k)  e = com.microsoft.Gelu(c)
        y = MatMul(e, v)"""
    fused = versioned_text(17, "com.microsoft", f"{ROWS} {{ {text} }}", w=M1, v=M2, g=one, k=zero)
    found = paired(plain, fused)
    assert not found.lost_reference and not found.lost_quantized
    (region,) = found.regions
    assert {op.node.op_type for op in region.quantized} == {"SkipLayerNormalization", "Gelu"}
    assert {op.node.output for op in region.reference} == {"b", "c", "d", "e"}


def test_an_operator_that_reads_something_else_stays_alone() -> None:
    plain = onnx_text(f"{ROWS} {{ a = MatMul(x, w)  b = Add(a, x)  c = Sigmoid(b)  y = MatMul(c, v) }}", w=M1, v=M2)
    other = onnx_text(f"{ROWS} {{ a = MatMul(x, w)  c = HardSwish(a)  y = MatMul(c, v) }}", w=M1, v=M2)
    found = paired(plain, other)
    assert [op.node.output for op in found.lost_quantized] == ["c"]
    assert [op.node.output for op in found.lost_reference] == ["b", "c"]


def test_shapes_around_a_layer_are_no_operators_of_their_own() -> None:
    plain = onnx_text(f"{ROWS} {{ a = MatMul(x, w)  b = Sigmoid(a)  y = MatMul(b, v) }}", w=M1, v=M2)
    flat = onnx_text(
        f"""{ROWS} {{ r = Reshape(x, two)  a = MatMul(r, w)  s = Reshape(a, three)  b = Sigmoid(s)
        t = Reshape(b, two)  u = MatMul(t, v)  y = Reshape(u, three) }}""",
        w=M1,
        v=M2,
        two=np.array([8, 8]),
        three=np.array([2, 4, 8]),
    )
    found = paired(plain, flat)
    assert not found.lost_reference and not found.lost_quantized


@pytest.mark.parametrize("behind", ["y = Identity(b)", "c = Relu(b)  y = MatMul(c, v)"])
def test_a_gemm_between_two_reshapes_is_a_product_of_another_rank(behind: str) -> None:
    """What the output of the model is behind them, too."""
    head = "agraph (float[2, 3, 8] x) => (float[2, 3, 8] y)"
    w, v, k = (RNG.normal(size=size).astype(np.float32) for size in ((8, 8), (8, 8), (8,)))
    held = {"w": w, "k": k, **({"v": v} if "v)" in behind else {})}
    plain = onnx_text(f"{head} {{ a = MatMul(x, w)  b = Add(a, k)  {behind} }}", **held)
    qdq = onnx_text(
        f"""{head} {{ q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  r = Reshape(d, rows)
        e = QuantizeLinear(r, s, z)  f = DequantizeLinear(e, s, z)  g = Gemm(f, w, k)
        h = QuantizeLinear(g, s, z)  i = DequantizeLinear(h, s, z)  b = Reshape(i, back)  {behind} }}""",
        **held,
        rows=np.array([-1, 8]),
        back=np.array([2, 3, 8]),
        s=np.float32(0.1),
        z=np.uint8(128),
    )
    found = paired(plain, qdq)
    assert not found.lost_quantized and not found.lost_reference and not found.contradictions
    assert nodes(found)["g"] == "a"
    output = found.quantized.value_of["y"]
    assert found.values[output] == found.reference.value_of["y"]


def test_codes_that_are_picked_from_a_table_have_the_scale_behind_the_product() -> None:
    head = "agraph (int64[4] ids) => (float[4, 8] y)"
    plain = onnx_text(
        f"{head} {{ e = Gather(table, ids)  y = MatMul(e, w) }}", table=RNG.normal(size=(9, 8)).astype(np.float32), w=M1
    )
    quantised = onnx_text(
        f"""{head} {{ e = Gather(codes, ids)  i = MatMulInteger(e, q, z)  c = Cast <to = 1> (i)
        s = Mul(st, sw)  y = Mul(c, s) }}""",
        codes=RNG.integers(0, 255, (9, 8)).astype(np.uint8),
        z=np.uint8(128),
        st=np.float32(0.02),
        q=np.rint(M1 / 0.02).clip(-127, 127).astype(np.int8),
        sw=np.float32(0.02),
    )
    found = paired(plain, quantised)
    assert nodes(found) == {"e": "e", "i": "y"} and not found.lost_quantized
    (held,) = (value for value in found.quantized.values if value.tensors == ("e",))
    assert held.quantized is not None and (held.quantized.scale, held.quantized.zero_point) == ("st", "z")
