"""Where what layers read can be divided in front of them, why not elsewhere, and that the float model stays."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text
from rewrite_cases import assert_same

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import INT8_DYNAMIC, INT8_PER_CHANNEL, LAYERS_ONLY, Scheme
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.graph import find_layers
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.reader_factors import ReaderFactors, apply, find

CHANNELS, WIDE = 64, (3, 11)
LAYERS = LAYERS_ONLY[INT8_PER_CHANNEL]
RESIDUAL = "t = Mul(x, size)\n a = Relu(t)\n b = MatMul(a, w)\n y = Add(a, b)"
AGAIN = "t = Mul(x, size)\n a = Relu(t)\n b = MatMul(a, w)\n c = Relu(b)\n y = MatMul(c, w)"
GEMM = "t = Mul(x, size)\n a = Relu(t)\n y = Gemm <transB = 1> (a, w, bias)"


def network(body: str, rows: Array | None = None) -> onnx.ModelProto:
    """Two channels reach a hundred times as far as others, and the weights heed them little."""
    rng = np.random.default_rng(1)
    size, weight = np.ones(CHANNELS), rng.normal(size=(CHANNELS, CHANNELS))
    size[list(WIDE)] = 100.0
    weight[list(WIDE)] /= 100
    weight = weight.T if "transB" in body else weight
    values = {"size": size, "w": weight if rows is None else rows, "bias": rng.normal(size=CHANNELS)}
    used = {name: np.asarray(value, np.float32) for name, value in values.items() if re.search(rf"\b{name}\b", body)}
    shape = f"[4, {CHANNELS}]" if "Gemm" in body else f"[1, 4, {CHANNELS}]"
    return onnx_text(f"block (float{shape} x) => (float{shape} y) {{ {body} }}", **used)


def data(proto: onnx.ModelProto) -> dict[str, Array]:
    shape = [one.dim_value for one in proto.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(0).normal(size=(16 * shape[0], *shape[1:])).astype(np.float32)}


def seen(proto: onnx.ModelProto, scheme: Scheme = LAYERS) -> tuple[Measured, Observations]:
    measured = measure(as_model(proto), (scheme,))
    return measured, observe(measured, ArraySource("s", data(proto)), 4)


def found(proto: onnx.ModelProto, scheme: Scheme = LAYERS) -> list[ReaderFactors | Refusal]:
    return list(find(*seen(proto, scheme)))


@pytest.mark.parametrize("body", [RESIDUAL, GEMM], ids=["residual", "gemm"])
@pytest.mark.parametrize("scheme", [LAYERS, INT8_DYNAMIC], ids=lambda one: one.name)
def test_what_reaches_far_is_divided_and_the_float_model_stays(body: str, scheme: Scheme) -> None:
    proto = network(body)
    (place,) = found(proto, scheme)
    assert isinstance(place, ReaderFactors) and place.tensor == "a"
    assert {channel for channel, factor in enumerate(place.factors) if factor > 8} == set(WIDE)
    made = apply(as_model(proto), [place])
    onnx.checker.check_model(made.proto, full_check=True)
    feeds = {"x": data(proto)["x"][: 4 if "Gemm" in body else 1]}
    assert_same(proto, made, feeds)
    layer = next(iter(find_layers(made)))
    assert made.producer(layer.input).op_type == "Mul"  # type: ignore[union-attr]
    readers = {node.op_type for node in made.consumers("a")}
    assert readers == ({"Mul", "Add"} if body == RESIDUAL else {"Mul"})


def test_layers_that_share_a_weight_share_their_factors() -> None:
    proto = network(AGAIN)
    places = [place for place in found(proto) if isinstance(place, ReaderFactors)]
    assert [place.tensor for place in places] == ["a", "c"]
    assert len({place.factors for place in places}) == 1
    made = apply(as_model(proto), places)
    assert len({layer.weight for layer in find_layers(made)}) == 1
    assert len(made.proto.graph.initializer) == len(proto.graph.initializer) + 1
    assert_same(proto, made, {"x": data(proto)["x"][:1]})


def test_a_part_of_the_places_leaves_the_others_their_weight() -> None:
    proto = network(AGAIN)
    made = apply(as_model(proto), [one for one in found(proto) if isinstance(one, ReaderFactors)][:1])
    assert len({layer.weight for layer in find_layers(made)}) == 2
    assert_same(proto, made, {"x": data(proto)["x"][:1]})


def test_nothing_is_found_where_the_tensor_has_codes_itself_or_no_run_saw_it() -> None:
    proto = network(RESIDUAL)
    assert found(proto, INT8_PER_CHANNEL) == []
    assert list(find(seen(proto)[0], None)) == []


def test_weights_that_would_lose_as_much_refuse() -> None:
    heeded = np.random.default_rng(1).normal(size=(CHANNELS, CHANNELS))
    heeded[list(WIDE)] *= 100
    (refusal,) = found(network(RESIDUAL, heeded))
    assert isinstance(refusal, Refusal) and "would lose as much" in refusal.reason


def test_values_that_are_not_finite_refuse() -> None:
    measured, known = seen(network(RESIDUAL))
    tensor = known.tensors["a"]
    assert tensor.channels is not None
    channels = replace(tensor.channels, high=np.full(CHANNELS, np.inf))
    endless = replace(known, tensors={**known.tensors, "a": replace(tensor, channels=channels)})
    (refusal,) = find(measured, endless)
    assert isinstance(refusal, Refusal) and "not finite" in refusal.reason


def test_a_weight_that_is_read_with_other_tensors_too_refuses() -> None:
    body = "t = Mul(x, size)\n a = Relu(t)\n b = MatMul(a, w)\n y = MatMul(x, w)\n z = Add(y, b)"
    proto = network(body.replace("y =", "d =").replace("z = Add(y", "y = Add(d"))
    (refusal,) = found(proto)
    assert isinstance(refusal, Refusal) and "with other tensors" in refusal.reason
