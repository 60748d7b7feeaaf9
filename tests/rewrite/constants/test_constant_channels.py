"""Where constant channels are found, where they are refused and why, and the model without them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text, run

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.constants.constant_channels import (
    REWRITE,
    ConstantChannels,
    apply,
    candidate,
    match,
    mended_layer,
)

CHANNELS, STILL = 12, 3


def network(changes: Mapping[str, Mapping[int, float]], *, shared: bool = False) -> onnx.ModelProto:
    """Two convolutions with a BatchNormalization each, `changes` in the first; the two may share one gamma."""
    rng = np.random.default_rng(5)
    values: dict[str, Array] = {
        "w": rng.uniform(-1, 1, (CHANNELS, 8, 3, 3)),
        "v": rng.uniform(-1, 1, (CHANNELS, CHANNELS, 1, 1)),
        "gamma": np.ones(CHANNELS),
        "beta": np.full(CHANNELS, 0.5),
        "mean": np.zeros(CHANNELS),
        "variance": np.full(CHANNELS, 24.0),
        "plain": np.full(CHANNELS, 24.0),
    }
    for name, entries in changes.items():
        for channel, value in entries.items():
            values[name][channel] = values[name][channel] * value if name == "w" else value
    values |= {} if shared else {"other": np.ones(CHANNELS)}
    return onnx_text(
        f"""block (float[N, 8, 8, 8] x) => (float[N, {CHANNELS}, 6, 6] y) {{
          first = Conv(x, w)
          normal = BatchNormalization(first, gamma, beta, mean, variance)
          positive = Relu(normal)
          second = Conv(positive, v)
          y = BatchNormalization(second, {"gamma" if shared else "other"}, beta, mean, plain)
        }}""",
        **{name: value.astype(np.float32) for name, value in values.items()},
    )


def measured(proto: onnx.ModelProto) -> Measured:
    return measure(as_model(proto), DEFAULT_SCHEMES)


def test_a_constant_channel_that_owns_the_range_is_a_candidate() -> None:
    (found,) = match(measured(network({"variance": {STILL: 1e-12}})))
    assert isinstance(found, ConstantChannels)
    assert (found.tensor, found.channels) == ("normal", (STILL,))
    assert found.swing_db is not None and found.swing_db == pytest.approx(20 * np.log10(1e-6 / np.sqrt(1e-5)), abs=0.1)


def test_channels_that_are_alike_are_no_place_to_look() -> None:
    assert list(match(measured(network({})))) == []
    assert list(match(measured(network({"gamma": {5: 1000.0}})))) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"variance": {STILL: 1e-12}, "gamma": {5: 1000.0}}, "other channels are nearly as wide"),
        ({"variance": {STILL: 1e-12}, "w": {STILL: 0.0}}, "are zero already"),
        ({"variance": {STILL: 1e-12}, "w": {c: 0.0 for c in range(CHANNELS) if c != STILL}}, "nothing is left"),
        ({"variance": {STILL: 1e-12}, "w": {5: float("nan")}}, "72 of the layer's weights are not finite"),
    ],
)
def test_a_refusal_names_the_layer_and_the_reason(changes: dict[str, dict[int, float]], reason: str) -> None:
    (found,) = match(measured(network(changes)))
    assert isinstance(found, Refusal) and found.tensor == "normal" and reason in found.reason


def test_channels_that_somebody_names_are_looked_at() -> None:
    known = measured(network({}))
    assert candidate(known, "normal", [0, 4]) == ConstantChannels("normal", (0, 4))
    refused = {"nowhere": "no such layer", "normal": f"the layer has {CHANNELS} channels"}
    for layer, reason in refused.items():
        found = candidate(known, layer, [CHANNELS])
        assert isinstance(found, Refusal) and found.tensor == layer and reason in found.reason
    bare = measured(
        onnx_text("g (float[N, 2] x) => (float[N, 2] y) { y = MatMul(x, w) }", w=np.eye(2, dtype=np.float32))
    )
    found = candidate(bare, "y", [0])
    assert isinstance(found, Refusal) and "no BatchNormalization" in found.reason


@pytest.mark.parametrize("shared", [False, True])
def test_the_rewritten_model_is_the_one_with_gamma_zero(shared: bool) -> None:
    """Its other layers, and a second reader of the old gamma, stay what they were."""
    proto = network({"variance": {STILL: 1e-12}}, shared=shared)
    before = measured(proto)
    (wanted,) = match(before)
    assert isinstance(wanted, ConstantChannels)
    untouched = before.model.proto.SerializeToString()
    model = apply(before.model, [wanted])
    assert before.model.proto.SerializeToString() == untouched
    onnx.checker.check_model(model.proto)
    expected = onnx.ModelProto()
    expected.CopyFrom(network({"variance": {STILL: 1e-12}, "gamma": {STILL: 0.0}}))
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)}
    np.testing.assert_array_equal(run(model.proto, feeds)[0], run(expected, feeds)[0])
    after = measure(model, DEFAULT_SCHEMES)
    first, second = after.layers
    assert np.array_equal(second.folded.matrix(model), before.layers[1].folded.matrix(before.model))
    mended = mended_layer(before, wanted)
    np.testing.assert_array_equal(first.folded.matrix(model), mended.folded.matrix(before.model))
    np.testing.assert_array_equal(first.folded.bias(model), mended.folded.bias(before.model))
    bias = first.folded.bias(model)
    assert bias is not None and bias[STILL] == 0.5
    name = INT8_PER_TENSOR.name
    assert first.weight.mean_channel_sqnr_db(name) == mended.weight.mean_channel_sqnr_db(name)
    assert all(isinstance(found, Refusal) for found in match(after))


def test_a_layer_in_a_branch_is_rewritten_there() -> None:
    rng = np.random.default_rng(1)
    proto = onnx_text(
        """block (float[N, 8, 8, 8] x) => (float[N, 4, 6, 6] y) {
          t = ReduceMax <keepdims = 0> (x)
          c = Cast <to = 9> (t)
          y = If (c) <then_branch = a () => (float[N, 4, 6, 6] p) {
              h = Conv(x, w)  p = BatchNormalization(h, gamma, beta, mean, variance)
            }, else_branch = b () => (float[N, 4, 6, 6] q) { q = Conv(x, other) }>
        }""",
        w=rng.standard_normal((4, 8, 3, 3)).astype(np.float32),
        other=np.ones((4, 8, 3, 3), np.float32),
        gamma=np.ones(4, np.float32),
        beta=np.ones(4, np.float32),
        mean=np.zeros(4, np.float32),
        variance=np.asarray([9, 9, 1e-12, 9], np.float32),
    )
    before = measured(proto)
    key = next(layer.output for layer in before.layers if layer.folded.after is not None)
    wanted = candidate(before, key, [2])
    assert isinstance(wanted, ConstantChannels)
    model = apply(before.model, [wanted])
    x = rng.standard_normal((1, 8, 8, 8)).astype(np.float32)
    (changed,), (exact,) = run(model.proto, {"x": x}), run(proto, {"x": x})
    assert (changed[:, 2] == 1).all() and not (exact[:, 2] == 1).all()
    np.testing.assert_array_equal(np.delete(changed, 2, 1), np.delete(exact, 2, 1))


def test_several_layers_change_at_once() -> None:
    proto = network({"variance": {STILL: 1e-12}, "plain": {5: 1e-12}})
    before = measured(proto)
    found = [one for one in REWRITE.find(before, None) if isinstance(one, ConstantChannels)]
    assert [(one.tensor, one.channels) for one in found] == [("normal", (STILL,)), ("y", (5,))]
    assert found[0].change == "1 channel without variance becomes part of the shift"
    after = measure(REWRITE.apply(before.model, found), DEFAULT_SCHEMES)
    assert [layer.weight.dead.tolist() for layer in after.layers] == [[STILL], [5]]
