"""Schemes: what each covers, who shares a scale in it, and which are judged by default."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text, versioned_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import (
    DEFAULT_SCHEMES,
    INT4_BLOCKS,
    INT8_DYNAMIC,
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    LAYERS_ONLY,
    PER_CHANNEL,
    PER_TENSOR,
    SCHEMES,
    SEQUENCE_SCHEMES,
    Scheme,
)
from onnxlint_q.finding import Subject
from onnxlint_q.graph import find_layers

LAYERS = """
g (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) {
    conv = Conv(x, k)
    up = ConvTranspose(conv, k)
    flat = Reshape(up, s)
    plain = Gemm(flat, m, b)
    scaled = Gemm <alpha = 0.5> (plain, m)
    halved = Gemm <beta = 0.5> (scaled, m, b)
    turned = Gemm <transA = 1> (halved, l)
    back = Transpose <perm = [1, 0]> (turned)
    right = MatMul(back, r)
    left = MatMul(w, right)
    y = Reshape(left, t)
}
"""
WEIGHTS = {
    "k": np.ones((4, 4, 1, 1), np.float32),
    "m": np.ones((6, 6), np.float32),
    "b": np.ones(6, np.float32),
    "l": np.ones((24, 4), np.float32),
    "r": np.ones((6, 6), np.float32),
    "w": np.ones((24, 4), np.float32),
    "s": np.asarray([24, 6]),
    "t": np.asarray([1, 4, 6, 6]),
}


def test_who_covers_which_layer() -> None:
    """quantize_dynamic has no ConvTranspose, and takes a Gemm that is a product and a bias; blocks are for MatMul."""
    layers = {layer.output: layer for layer in find_layers(as_model(onnx_text(LAYERS, **WEIGHTS)))}
    covered = {name: {key for key, layer in layers.items() if scheme.covers(layer)} for name, scheme in SCHEMES.items()}
    assert covered["int8-dynamic"] == covered["int8-dynamic-per-channel"] == {"conv", "plain", "right"}
    assert covered["int4-blocks"] == covered["int4-blocks-64-asymmetric"] == {"right"}
    assert covered["int8-weight-only"] == covered["int8-per-tensor"] == layers.keys()
    shared = {key: SCHEMES["int8-dynamic-per-channel"].of_layer(layers[key]).sharing for key in ("conv", "plain")}
    assert shared == {"conv": PER_TENSOR, "plain": PER_CHANNEL}


def test_what_is_in_a_subgraph_is_not_quantised_dynamically() -> None:
    proto = onnx_text(
        """g (float[1, 6] x, bool c) => (float[1, 6] y) {
            y = If (c) <then_branch = t () => (float[1, 6] a) { a = MatMul(x, m) },
                        else_branch = e () => (float[1, 6] d) { d = MatMul(x, m) }>
        }""",
        m=np.ones((6, 6), np.float32),
    )
    layers = list(find_layers(as_model(proto)))
    assert [[scheme.quantises(layer) for layer in layers] for scheme in (INT8_DYNAMIC, INT4_BLOCKS)] == [
        [False, False],
        [True, True],
    ]
    assert all(INT8_DYNAMIC.covers(layer) for layer in layers), "alone it can be"


def test_names_of_blocks_follow_one_pattern() -> None:
    sizes = {name: scheme.sharing.block_size for name, scheme in SCHEMES.items() if scheme.sharing.block_size}
    assert sizes == {
        f"int4-blocks{size}{kind}": number
        for kind in ("", "-asymmetric")
        for size, number in (("", 32), ("-64", 64), ("-128", 128))
    }
    assert all(SCHEMES[name].weights.symmetric is not name.endswith("-asymmetric") for name in sizes)


def test_where_scales_of_activations_come_from() -> None:
    kinds = {name: (scheme.is_calibrated, scheme.is_dynamic) for name, scheme in SCHEMES.items()}
    assert kinds["int8-per-tensor"] == kinds["fp8"] == (True, False)
    assert kinds["int8-dynamic"] == (False, True)
    assert kinds["int8-weight-only"] == kinds["int4-blocks"] == (False, False)


def test_what_schemes_do_alike() -> None:
    """The weight of a layer is the same in a static and a dynamic file, its activations are not."""
    assert INT8_DYNAMIC.treatment(Subject.WEIGHT) == INT8_PER_TENSOR.treatment(Subject.WEIGHT)
    assert INT8_DYNAMIC.treatment(Subject.ACTIVATION) != INT8_PER_TENSOR.treatment(Subject.ACTIVATION)
    assert INT8_PER_CHANNEL.treatment(Subject.ACTIVATION) == INT8_PER_TENSOR.treatment(Subject.ACTIVATION)
    for whole, layers in LAYERS_ONLY.items():
        assert layers.treatment(Subject.WEIGHT) == whole.treatment(Subject.WEIGHT)
        assert layers.treatment(Subject.ACTIVATION) != whole.treatment(Subject.ACTIVATION)


IMAGE = "g (float[1, 8, 6, 6] x) => (float[N, M] y)"
POSITIONS = "g (float[1, 6, 8] x) => (float[N, M, K] y)"
K, M, BIG = np.ones((8, 8, 3, 3), np.float32), np.ones((8, 8), np.float32), np.ones((128, 500), np.float32)


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        (f"{IMAGE} {{ h = Conv(x, k)\n f = Flatten(h)\n y = Gemm(f, w) }}", {"k": K, "w": BIG}, DEFAULT_SCHEMES),
        (f"{POSITIONS} {{ h = MatMul(x, w)\n r = Relu(h)\n y = MatMul(r, w) }}", {"w": M}, SEQUENCE_SCHEMES),
        ("g (float[4, 8] x) => (float[N, M] y) { h = Gemm(x, w)\n y = Gemm(h, w) }", {"w": M}, DEFAULT_SCHEMES),
        (  # attention over what an exporter has flattened
            "g (float[4, 8] x) => (float[N, M] y) { q = Gemm(x, w)\n k = Gemm(x, w)\n t = Transpose(k)\n "
            "s = MatMul(q, t)\n p = Softmax(s)\n y = MatMul(p, q) }",
            {"w": M},
            SEQUENCE_SCHEMES,
        ),
        (  # the same behind a convolution with most of the weights
            "g (float[1, 8, 6, 6] x) => (float[N, M] y) { h = Conv(x, k)\n f = Reshape(h, s)\n q = MatMul(f, w)\n "
            "t = Transpose(q)\n a = MatMul(q, t)\n y = Softmax(a) }",
            {"k": K, "w": M, "s": np.asarray([36, 8])},
            DEFAULT_SCHEMES,
        ),
        (  # a recurrent network, however large its convolution is
            "g (float[6, 1, 8] x) => (float[N, M, K] y) { t = Transpose <perm = [1, 2, 0]> (x)\n h = Conv(t, k)\n "
            "i = Transpose <perm = [2, 0, 1]> (h)\n o, y = GRU <hidden_size = 2> (i, w, r) }",
            {
                "k": np.ones((8, 8, 3), np.float32),
                "w": np.ones((1, 6, 8), np.float32),
                "r": np.ones((1, 6, 2), np.float32),
            },
            SEQUENCE_SCHEMES,
        ),
    ],
    ids=["classes", "mixer", "perceptron", "attention", "attention in a CNN", "recurrent"],
)
def test_the_default_follows_the_network(
    text: str, weights: dict[str, np.ndarray], expected: tuple[Scheme, ...]
) -> None:
    assert measure(as_model(onnx_text(text, **weights))).schemes == expected
    assert measure(as_model(onnx_text(text, **weights)), [INT8_PER_TENSOR]).schemes == (INT8_PER_TENSOR,)


def test_a_fused_attention_holds_matrices_too() -> None:
    proto = versioned_text(
        17,
        "com.microsoft",
        "g (float[1, 6, 8] x) => (float[1, 6, 8] y) { y = com.microsoft.Attention <num_heads = 2> (x, w, b) }",
        w=np.ones((8, 24), np.float32),
        b=np.ones(24, np.float32),
    )
    assert measure(as_model(proto)).schemes == SEQUENCE_SCHEMES
