"""Folding is exact: a model rebuilt from the folded weights computes the same; what cannot fold says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_cases import Array, as_model, onnx_text, run, versioned_text
from onnxruntime.quantization.shape_inference import quant_pre_process

from onnxlint_q.analysis.folding import Blocker, FoldedLayer, Folding, fold_batch_norms
from onnxlint_q.graph import Model, find_layers, read_model

# Reproducible and short: each example starts two ONNX Runtime sessions.
few = settings(max_examples=8, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
BN = "BatchNormalization"


def folded(model: Model) -> Folding:
    return fold_batch_norms(model, list(find_layers(model)))


def norm(rng: np.random.Generator, channels: int, prefix: str = "") -> dict[str, Array]:
    arrays = {
        "g": rng.normal(0, 1, channels),
        "b": rng.normal(0, 1, channels),
        "m": rng.normal(0, 1, channels),
        "v": rng.uniform(0.01, 4, channels),
    }
    return {prefix + key: value.astype(np.float32) for key, value in arrays.items()}


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def without_norms(proto: onnx.ModelProto, model: Model, layers: tuple[FoldedLayer, ...]) -> onnx.ModelProto:
    """The model with every foldable normalisation taken out and every folded weight and bias put in."""
    rebuilt = onnx.ModelProto()
    rebuilt.CopyFrom(proto)
    nodes = {node.output[0]: node for node in rebuilt.graph.node}
    for layer in layers:
        if not layer.is_folded:
            continue
        node = nodes[layer.layer.output]
        gone = [part.node.output for part in (layer.before, layer.after) if part is not None]
        gone += [layer.bias_add.output] if layer.bias_add is not None else []
        source = layer.before.node.input(0) if layer.before is not None else layer.layer.input
        weight, bias, result = f"{layer.output}.w", f"{layer.output}.b", layer.output
        rebuilt.graph.initializer.append(numpy_helper.from_array(layer.weight(model), weight))
        rebuilt.graph.initializer.append(numpy_helper.from_array(np.asarray(layer.bias(model)), bias))
        if layer.layer.op_type == "MatMul":
            node.input[:] = [source, weight]
            node.output[0] = f"{layer.output}.product"
            add = helper.make_node("Add", [node.output[0], bias], [result])
            rebuilt.graph.node.insert(list(rebuilt.graph.node).index(node) + 1, add)
        else:
            node.input[:] = [source, weight, bias]
            node.output[0] = result
        for output in gone:
            if nodes[output].output[0] == output and nodes[output] is not node:
                rebuilt.graph.node.remove(nodes[output])
    assert not any(node.op_type == BN for node in rebuilt.graph.node)
    return rebuilt


def assert_fold_is_exact(proto: onnx.ModelProto, sample: Array) -> FoldedLayer:
    model = as_model(proto)
    folding = folded(model)
    assert folding.blocked == ()
    (expected,) = run(proto, {"x": sample})
    (actual,) = run(without_norms(proto, model, folding.layers), {"x": sample})
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))
    (layer,) = [layer for layer in folding.layers if layer.is_folded]
    return layer


@few
@given(seeds, st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_conv(seed: int, group: int, inputs: int, outputs: int, bias: bool) -> None:
    rng = np.random.default_rng(seed)
    arrays = {"w": normal(rng, group * outputs, inputs, 3, 3)} | norm(rng, group * outputs)
    if bias:
        arrays["c"] = normal(rng, group * outputs)
    body = f"y0 = Conv<group = {group}, pads = [1, 1, 1, 1], strides = [2, 1]>(x, w{', c' * bias})"
    shapes = f"(float[N,{group * inputs},6,6] x) => (float[N,C,H,W] y)"
    proto = onnx_text(f"g {shapes} {{ {body} y = {BN}<epsilon = 0.001>(y0, g, b, m, v) }}", **arrays)
    layer = assert_fold_is_exact(proto, normal(rng, 2, group * inputs, 6, 6))
    assert layer.output == "y"
    assert layer.matrix(as_model(proto)).shape == (group * outputs, inputs * 9)


@few
@given(seeds, st.integers(2, 5), st.integers(1, 2))
def test_depthwise_conv(seed: int, channels: int, multiplier: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = channels * multiplier
    proto = onnx_text(
        f"g (float[N,{channels},6,6] x) => (float[N,C,H,W] y) "
        f"{{ y0 = Conv<group = {channels}>(x, w) y = {BN}(y0, g, b, m, v) }}",
        w=normal(rng, outputs, 1, 3, 3),
        **norm(rng, outputs),
    )
    assert assert_fold_is_exact(proto, normal(rng, 2, channels, 6, 6)).layer.depthwise


@few
@given(seeds, st.sampled_from([1, 2, 3]), st.integers(1, 3), st.integers(1, 3))
def test_conv_transpose(seed: int, group: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    proto = onnx_text(
        f"g (float[N,{group * inputs},4,4] x) => (float[N,C,H,W] y) "
        f"{{ y0 = ConvTranspose<group = {group}, strides = [2, 2]>(x, w, c) y = {BN}(y0, g, b, m, v) }}",
        w=normal(rng, group * inputs, outputs, 3, 3),
        c=normal(rng, group * outputs),
        **norm(rng, group * outputs),
    )
    layer = assert_fold_is_exact(proto, normal(rng, 2, group * inputs, 4, 4))
    assert layer.matrix(as_model(proto)).shape == (group * outputs, inputs * 9)


@few
@given(seeds, st.integers(0, 1), st.sampled_from(["", ", c", ", row", ", one"]))
def test_gemm(seed: int, transposed: int, bias: str) -> None:
    rng = np.random.default_rng(seed)
    proto = onnx_text(
        f"g (float[N,5] x) => (float[N,7] y) "
        f"{{ y0 = Gemm<transB = {transposed}>(x, w{bias}) y = {BN}(y0, g, b, m, v) }}",
        w=normal(rng, *((7, 5) if transposed else (5, 7))),
        c=normal(rng, 7),
        row=normal(rng, 1, 7),
        one=normal(rng, 1),
        **norm(rng, 7),
    )
    assert_fold_is_exact(proto, normal(rng, 3, 5))


@few
@given(seeds, st.sampled_from(["y1 = Identity(y0)", "y1 = Add(y0, c)", "y1 = Add(c, y0)", "y1 = Add(y0, one)"]))
def test_matmul_with_its_bias(seed: int, add: str) -> None:
    rng = np.random.default_rng(seed)
    bare = "Identity" in add
    proto = onnx_text(
        f"g (float[N,5] x) => (float[N,7] y) "
        f"{{ y0 = MatMul(x, w) {'' if bare else add} y = {BN}({'y0' if bare else 'y1'}, g, b, m, v) }}",
        w=normal(rng, 5, 7),
        c=normal(rng, 7),
        one=normal(rng, 1, 1),
        **norm(rng, 7),
    )
    layer = assert_fold_is_exact(proto, normal(rng, 3, 5))
    assert (layer.bias_add is None) == bare


@few
@given(seeds, st.sampled_from([1, 3]))
def test_forward_into_a_conv_without_padding(seed: int, group: int) -> None:
    rng = np.random.default_rng(seed)
    proto = onnx_text(
        f"g (float[N,6,5,5] x) => (float[N,C,H,W] y) {{ n = {BN}(x, g, b, m, v) y = Conv<group = {group}>(n, w, c) }}",
        w=normal(rng, 6, 6 // group, 3, 3),
        c=normal(rng, 6),
        **norm(rng, 6),
    )
    layer = assert_fold_is_exact(proto, normal(rng, 2, 6, 5, 5))
    assert layer.before is not None and layer.after is None


@few
@given(seeds, st.sampled_from(["Gemm(n, w, c)", "Gemm<transB = 1>(n, t, c)", "MatMul(n, w)"]))
def test_forward_into_a_product(seed: int, product: str) -> None:
    rng = np.random.default_rng(seed)
    proto = onnx_text(
        f"g (float[N,5] x) => (float[N,7] y) {{ n = {BN}(x, g, b, m, v) y = {product} }}",
        w=normal(rng, 5, 7),
        t=normal(rng, 7, 5),
        c=normal(rng, 7),
        **norm(rng, 5),
    )
    assert_fold_is_exact(proto, normal(rng, 3, 5))


def test_forward_into_a_padding_conv_without_a_shift() -> None:
    """Nothing is added, so the zeros of the padding stay zeros."""
    rng = np.random.default_rng(0)
    arrays = norm(rng, 3)
    arrays["b"] = arrays["m"] = np.zeros(3, np.float32)
    proto = onnx_text(
        f"g (float[N,3,5,5] x) => (float[N,C,H,W] y) {{ n = {BN}(x, g, b, m, v) y = Conv<pads = [1, 1, 1, 1]>(n, w) }}",
        w=normal(rng, 4, 3, 3, 3),
        **arrays,
    )
    assert_fold_is_exact(proto, normal(rng, 2, 3, 5, 5))


def test_both_sides_of_one_layer() -> None:
    rng = np.random.default_rng(1)
    proto = onnx_text(
        f"g (float[N,3,5,5] x) => (float[N,4,3,3] y) {{ n = {BN}(x, g, b, m, v) c = Conv(n, w, d) "
        f"y = {BN}(c, ag, ab, am, av) }}",
        w=normal(rng, 4, 3, 3, 3),
        d=normal(rng, 4),
        **norm(rng, 3),
        **norm(rng, 4, "a"),
    )
    layer = assert_fold_is_exact(proto, normal(rng, 2, 3, 5, 5))
    assert layer.before is not None and layer.after is not None


def test_matmul_with_norms_before_and_behind_its_bias() -> None:
    rng = np.random.default_rng(2)
    proto = onnx_text(
        f"g (float[N,5] x) => (float[N,7] y) {{ n = {BN}(x, g, b, m, v) p = MatMul(n, w) s = Add(p, c) "
        f"y = {BN}(s, ag, ab, am, av) }}",
        w=normal(rng, 5, 7),
        c=normal(rng, 7),
        **norm(rng, 5),
        **norm(rng, 7, "a"),
    )
    assert_fold_is_exact(proto, normal(rng, 3, 5))


def test_whole_network(models: Path) -> None:
    """Every normalisation of the residual network folds, and the network stays what it was."""
    model = read_model(models / "healthy_resnet.onnx")
    folding = folded(model)
    assert folding.blocked == ()
    assert sum(layer.is_folded for layer in folding.layers) == 6
    sample = np.random.default_rng(3).standard_normal((2, 3, 32, 32)).astype(np.float32)
    (expected,) = run(models / "healthy_resnet.onnx", {"images": sample})
    (actual,) = run(without_norms(model.proto, model, folding.layers), {"images": sample})
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_weight_behind_a_transpose_is_not_shared() -> None:
    rng = np.random.default_rng(4)
    proto = onnx_text(
        f"g (float[N,5] x) => (float[N,7] y) {{ t = Transpose(w) y0 = MatMul(x, t) y = {BN}(y0, g, b, m, v) }}",
        w=normal(rng, 7, 5),
        **norm(rng, 7),
    )
    assert_fold_is_exact(proto, normal(rng, 3, 5))


def test_weight_in_codes_folds_too() -> None:
    rng = np.random.default_rng(5)
    proto = onnx_text(
        "g (float[N,3,5,5] x) => (float[N,4,3,3] y) "
        f"{{ w = DequantizeLinear<axis = 0>(q, s) y0 = Conv(x, w) y = {BN}(y0, g, b, m, v) }}",
        q=rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        s=np.geomspace(0.01, 0.1, 4).astype(np.float32),
        **norm(rng, 4),
    )
    assert_fold_is_exact(proto, normal(rng, 2, 3, 5, 5))


# -- what stands in the way ----------------------------------------------------------------------------------------

IMAGE = "float[N,3,5,5] x"
ROW = "float[N,5] x"
AFTER = f"y = {BN}(c, g, b, m, v)"
BLOCKED: dict[Blocker, tuple[str, str]] = {
    Blocker.TRAINING: (IMAGE, f"c = Conv(x, w) y, mean, var = {BN}<training_mode = 1>(c, g, b, m, v)"),
    Blocker.PARAMETERS: (
        IMAGE,
        f"c = Conv(x, w) k = ReduceMean<axes = [0, 2, 3], keepdims = 0>(c) y = {BN}(c, g, b, k, v)",
    ),
    Blocker.CHANNELS: (ROW, "c = Gemm(x, d, column) " + AFTER),
    Blocker.FACTORS: (ROW, "c = Gemm<alpha = 0.5>(x, d) " + AFTER),
    Blocker.NO_LAYER: (IMAGE, f"c = Abs(x) n = {BN}(c, g3, g3, g3, g3) y = Relu(n)"),
    Blocker.READER: (IMAGE, f"n = {BN}(x, g3, g3, g3, g3) y = ConvTranspose(n, u)"),
    Blocker.ACTIVATION: (IMAGE, "a = Conv(x, w) c = Relu(a) " + AFTER),
    Blocker.OTHER_NODE: (IMAGE, "a = Conv(x, w) c = MaxPool<kernel_shape = [2, 2]>(a) " + AFTER),
    Blocker.CONSUMERS: (IMAGE, f"c = Conv(x, w) n = {BN}(c, g, b, m, v) y = Add(c, n)"),
    Blocker.SHARED_WEIGHT: (IMAGE, "c = Conv(x, w) e = Conv(x, w) f = Add(e, e) " + AFTER),
    Blocker.SHARED_BIAS: (
        IMAGE,
        "k = ReduceMean<axes = [0, 1, 2], keepdims = 0>(x) l = Slice(k, zero, four) c = Conv(x, w, l) " + AFTER,
    ),
    Blocker.PADDING: (IMAGE, f"n = {BN}(x, g3, g3, g3, g3) y = Conv<pads = [1, 1, 1, 1]>(n, w)"),
    Blocker.SUBGRAPH: (
        IMAGE,
        f"c = Conv(x, w) go = Constant<value = bool {{1}}>() "
        f"y = If(go) <then_branch = t () => (float[N,4,3,3] i) {{ i = {BN}(c, g, b, m, v) }}, "
        "else_branch = e () => (float[N,4,3,3] o) { o = Relu(c) }>",
    ),
}


def blocked_model(inputs: str, body: str) -> onnx.ModelProto:
    rng = np.random.default_rng(6)
    return onnx_text(
        f"g ({inputs}) => (float y) {{ {body} }}",
        w=normal(rng, 4, 3, 3, 3),
        u=normal(rng, 3, 4, 3, 3),
        d=normal(rng, 5, 4),
        column=normal(rng, 4, 1),
        g3=np.ones(3, np.float32),
        zero=np.zeros(1, np.int64),
        four=np.full(1, 4, np.int64),
        **norm(rng, 4),
    )


@pytest.mark.parametrize("reason", Blocker)
def test_each_reason(reason: Blocker) -> None:
    folding = folded(as_model(blocked_model(*BLOCKED[reason])))
    assert [blocked.reason for blocked in folding.blocked] == [reason]
    assert not any(layer.is_folded for layer in folding.layers)


def test_the_operator_in_the_way_is_named() -> None:
    def other(reason: Blocker) -> str:
        node = folded(as_model(blocked_model(*BLOCKED[reason]))).blocked[0].other
        return node.op_type if node is not None else ""

    assert other(Blocker.ACTIVATION) == "Relu"
    assert other(Blocker.OTHER_NODE) == "MaxPool"
    assert other(Blocker.PADDING) == "Conv"
    assert other(Blocker.CONSUMERS) == "Conv"


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("float[N,4,5] x", "c = MatMul(x, d) " + AFTER),
        (ROW, "p = MatMul(x, d) c = Add(p, cube) " + AFTER),
        (ROW, f"p = {BN}(x, g5, g5, g5, g5) c = Reshape(p, shape) y = MatMul(c, d)"),
        ("float[5,4] x", "c = MatMul(left, x) " + AFTER),
        ("float[4,N] x", f"n = {BN}(x, gn, gn, gn, gn) y = Gemm<transA = 1>(n, e)"),
    ],
    ids=["rank 3", "bias of rank 3", "reshaped", "weight on the left", "transposed input"],
)
def test_channels_that_are_not_the_layers(inputs: str, body: str) -> None:
    """BatchNormalization counts channels along axis 1, a product along its last one."""
    proto = blocked_model(inputs, body)
    arrays: dict[str, Array] = {
        "cube": np.ones((1, 1, 4), np.float32),
        "g5": np.ones(5, np.float32),
        "gn": np.ones(4, np.float32),
        "e": np.ones((4, 4), np.float32),
        "left": np.ones((4, 5), np.float32),
        "shape": np.array([-1, 5], np.int64),
    }
    for name, array in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    assert not any(layer.is_folded for layer in folded(as_model(proto)).layers)


def test_several_outputs_meant_training_before_opset_14() -> None:
    proto = versioned_text(
        9,
        "",
        f"g ({IMAGE}) => (float[N,4,3,3] y) {{ c = Conv(x, w) y, mean, var, m2, v2 = {BN}(c, g, b, m, v) }}",
        w=np.ones((4, 3, 3, 3), np.float32),
        **norm(np.random.default_rng(7), 4),
    )
    assert [blocked.reason for blocked in folded(as_model(proto)).blocked] == [Blocker.TRAINING]


def test_fixture_shows_every_reason_an_exporter_makes(models: Path) -> None:
    reasons = {b.node.name: b.reason for b in folded(read_model(models / "unfolded_bn.onnx")).blocked}
    assert reasons == {
        "pads_bn": Blocker.PADDING,
        "activation_bn": Blocker.ACTIVATION,
        "consumers_bn": Blocker.CONSUMERS,
        "no_layer_bn": Blocker.NO_LAYER,
        "shared1_bn": Blocker.SHARED_WEIGHT,
        "shared2_bn": Blocker.SHARED_WEIGHT,
        "between_bn": Blocker.OTHER_NODE,
        "training_bn": Blocker.TRAINING,
    }


def test_a_negative_variance_is_no_crash() -> None:
    """It is for a rule to report: the gain of that channel is not a number, the others are."""
    proto = onnx_text(
        f"g ({IMAGE}) => (float[N,4,3,3] y) {{ c = Conv(x, w) y = {BN}(c, g, g, g, v) }}",
        w=np.ones((4, 3, 3, 3), np.float32),
        g=np.ones(4, np.float32),
        v=np.array([1, -1, 0, 1e-9], np.float32),
    )
    model = as_model(proto)
    (layer,) = folded(model).layers
    assert layer.after is not None
    np.testing.assert_array_equal(np.isfinite(layer.after.gain), [True, False, True, True])
    np.testing.assert_array_equal(np.isfinite(layer.matrix(model)).all(axis=1), [True, False, True, True])


@pytest.mark.parametrize("bias", ["", ", c"], ids=["without a bias", "with a bias"])
def test_folded_values_are_to_the_bit_those_that_onnxruntime_prepares(tmp_path: Path, bias: str) -> None:
    rng = np.random.default_rng(5)
    text = f"agraph (float[1, 6, 8, 8] x) => (float[1, C, H, W] y) {{ h = Conv(x, w{bias})\n y = {BN}(h, g, b, m, v) }}"
    constants = {"w": normal(rng, 40, 6, 3, 3), "c": normal(rng, 40), **norm(rng, 40)}
    proto = onnx_text(text, **{key: value for key, value in constants.items() if bias or key != "c"})
    onnx.save(proto, tmp_path / "m.onnx")
    quant_pre_process(str(tmp_path / "m.onnx"), str(tmp_path / "ready.onnx"), skip_symbolic_shape=True)
    model = as_model(proto)
    (layer,) = folded(model).layers
    held = [numpy_helper.to_array(init) for init in onnx.load(tmp_path / "ready.onnx").graph.initializer]
    assert len(held) == 2
    for expected, own in zip(sorted(held, key=np.size), (layer.bias(model), layer.weight(model)), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_codes_of_a_bias_that_do_not_fit_their_scales_are_open(models: Path) -> None:
    proto = onnx.load(models / "qoperator.onnx")
    node = next(node for node in proto.graph.node if node.op_type == "QLinearConv")
    fitting = FoldedLayer(next(iter(find_layers(read_model(models / "qoperator.onnx")))))
    assert fitting.real_bias(read_model(models / "qoperator.onnx")) is not None
    bias = next(one for one in proto.graph.initializer if one.name == node.input[8])
    codes = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(np.concatenate([codes, codes[:1]]), bias.name))
    model = as_model(proto)
    assert FoldedLayer(next(iter(find_layers(model)))).real_bias(model) is None


NORMED = {
    "a convolution": ("h = Conv(i, w) y = BatchNormalization(h, g, b, m, v)", (4, 4, 1, 1)),
    "a transposed convolution": ("h = ConvTranspose(i, w) y = BatchNormalization(h, g, b, m, v)", (4, 4, 1, 1)),
    "a product": ("h = MatMul(x, w) y = BatchNormalization(h, g, b, m, v)", (4, 4)),
    "a product with a bias": ("h = MatMul(x, w) a = Add(h, b) y = BatchNormalization(a, g, b, m, v)", (4, 4)),
    "a Gemm": ("h = Gemm(x, w, b) y = BatchNormalization(h, g, b, m, v)", (4, 4)),
    "in front of a product": ("h = BatchNormalization(x, g, b, m, v) y = MatMul(h, w)", (4, 4)),
    "in front of a convolution": ("h = BatchNormalization(i, g, b, m, v) y = Conv(h, w)", (4, 4, 1, 1)),
}


@pytest.mark.parametrize("case", NORMED)
def test_which_norms_the_preparation_of_onnx_runtime_folds_as_well(case: str, tmp_path: Path) -> None:
    text, shape = NORMED[case]
    values = np.random.default_rng(3).uniform(0.5, 2, (5, 4)).astype(np.float32)
    held = dict(zip("gbmv", values, strict=False)) | {"w": np.ones(shape, np.float32)}
    name, dims = ("i", "[N, 4, 5, 5]") if "(i" in text else ("x", "[N, 4]")
    proto = onnx_text(f"net (float{dims} {name}) => (float{dims} y) {{ {text} }}", **held)
    onnx.save(proto, tmp_path / "float.onnx")
    quant_pre_process(str(tmp_path / "float.onnx"), str(tmp_path / "ready.onnx"), skip_symbolic_shape=True)
    left = [node for node in onnx.load(tmp_path / "ready.onnx").graph.node if node.op_type == "BatchNormalization"]
    model = as_model(proto)
    (layer,) = folded(model).layers
    assert layer.is_folded and layer.folds_in_preparation == (not left)
