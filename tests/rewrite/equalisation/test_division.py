"""Any positive factors of channels leave the float outputs what they are, wherever the ties say that they may be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from equalisation_cases import NETWORKS, constants, data, network, written
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import Array, as_model, run, sqnr_db, versioned_text

from onnxlint_q.graph import Model
from onnxlint_q.rewrite.equalisation.division import divided
from onnxlint_q.rewrite.equalisation.ties import find_ties


def any_factors(model: Model, seed: int, few: bool = False) -> dict[str, Array]:
    """Factors of all channels that may have any; with `few`, of about half of the sets."""
    ties = find_ties(model)
    draw = np.random.default_rng(seed)
    logs = draw.uniform(-3, 3, ties.count)
    if few:
        logs[np.isin(ties.sets, [one for one in np.unique(ties.sets) if draw.random() < 0.5])] = 0
    factors = np.append(np.exp(logs), 1.0)
    return {key: factors[numbers] for key, numbers in ties.tensors.items()}


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), few=st.booleans())
def test_outputs_stay(name: str, seed: int, few: bool) -> None:
    proto = network(name)
    model = as_model(proto)
    factors = any_factors(model, seed, few)
    made = divided(model, factors).proto
    onnx.checker.check_model(made)
    for before, after in zip(run(proto, data(proto)), run(made, data(proto)), strict=True):
        assert sqnr_db(before, after) > 100


@pytest.mark.parametrize("name", NETWORKS)
def test_tensors_are_divided_as_told(name: str) -> None:
    proto = network(name)
    factors = any_factors(as_model(proto), 1)
    assert factors
    made = onnx.ModelProto()
    made.CopyFrom(divided(as_model(proto), factors).proto)
    for one in (proto, made):
        one.graph.output.extend(onnx.helper.make_empty_tensor_value_info(key) for key in factors)
    before, after = (run(one, data(proto))[1:] for one in (proto, made))
    for old, new, factor in zip(before, after, factors.values(), strict=True):
        assert np.allclose(old, new * factor, rtol=1e-4, atol=1e-5 * np.abs(old).max())


@pytest.mark.parametrize("name", ["bounds", "products", "a stream"])
def test_half_precision(name: str) -> None:
    proto = network(name)
    for tensor in proto.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array((value / 8).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model = as_model(proto)
    factors = {key: 2.0 ** np.rint(np.log2(by) / 2) for key, by in any_factors(model, 5).items()}
    made = divided(model, factors).proto
    onnx.checker.check_model(made)
    (before,), (after,) = (run(one, data(proto)) for one in (proto, made))
    assert after.dtype == np.float16 and sqnr_db(before.astype(np.float32), after.astype(np.float32)) > 40


@pytest.mark.parametrize("opset", [8, 11, 13])
def test_bounds_of_older_opsets(opset: int) -> None:
    clip = "Clip <min = 0.0, max = 6.0> (a)" if opset < 11 else "Clip(a, zero, six)"
    body = f"a = Conv(x, c8x3k3, b8)\n r = {clip}\n y = Conv(r, c4x8k1)"
    head = "net (float[N, 3, 8, 8] x) => (float[N, A, B, C] y)"
    names = {"c8x3k3", "b8", "c4x8k1"} | ({"zero", "six"} if opset >= 11 else set())
    proto = versioned_text(opset, "", f"{head} {{ {body} }}", **constants(names))
    made = divided(as_model(proto), any_factors(as_model(proto), 2)).proto
    onnx.checker.check_model(made)
    assert [node.op_type for node in made.graph.node] == ["Conv", "Clip", "Min", "Conv"]
    assert sqnr_db(run(proto, data(proto))[0], run(made, data(proto))[0]) > 100


def test_one_factor_of_all_channels_keeps_the_clip() -> None:
    proto = network("bounds")
    model = as_model(proto)
    made = divided(model, {key: np.full_like(by, 3.0) for key, by in any_factors(model, 0).items()}).proto
    assert [node.op_type for node in made.graph.node] == [node.op_type for node in proto.graph.node]
    assert sqnr_db(run(proto, data(proto))[0], run(made, data(proto))[0]) > 100


def test_weights_that_others_read_stay() -> None:
    proto = network("a weight that two read")
    model = as_model(proto)
    alone = {key: by for key, by in any_factors(model, 4).items() if key in {"a", "r"}}
    made = divided(model, alone).proto
    second = next(node for node in made.graph.node if node.output[0] == "w")
    assert second.input[1] == "c8x8k1"
    assert sqnr_db(run(proto, data(proto))[0], run(made, data(proto))[0]) > 100


def test_what_nothing_reads_any_more_goes() -> None:
    model = as_model(written(*NETWORKS["a chain"]))
    made = divided(model, any_factors(model, 0)).proto
    assert not {"c8x3k3", "b8", "c4x8k1"} & {tensor.name for tensor in made.graph.initializer}
