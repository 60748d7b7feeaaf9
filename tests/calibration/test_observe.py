"""The streaming pass against brute force: every tensor fetched whole and reduced by numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text, run

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.calibration.data import ArraySource, Sample, open_source
from onnxlint_q.calibration.observe import DRAWN_VALUES, observe, observed_tensors
from onnxlint_q.calibration.preprocess import PRESETS
from onnxlint_q.calibration.session import NotRunnableError
from onnxlint_q.facts import Facts, measure
from onnxlint_q.graph import Value, read_model

SCHEME_LIST = DEFAULT_SCHEMES


def facts_of(path: Path) -> Facts:
    return measure(read_model(path), SCHEME_LIST)


@pytest.mark.parametrize("name", ["healthy_resnet", "silu_gate", "depthwise_spread", "opset11", "dynamic_shape"])
def test_float_statistics_equal_brute_force(models: Path, calibration: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    facts = facts_of(path)
    seen = observe(facts, open_source(str(calibration), PRESETS["raw"]), 8)
    tensors = [tensor for tensor in observed_tensors(facts) if tensor != "images"]
    proto = onnx.load(path)
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(t) for t in tensors if t not in facts.model.output_names
    )
    names = [value.name for value in proto.graph.output]
    images = np.load(calibration)["images"][:8]
    whole = [dict(zip(names, run(proto, {"images": image[None]}), strict=True)) for image in images]
    assert set(seen.tensors) == set(observed_tensors(facts)) and seen.samples == 8 and seen.available == 32
    for tensor in tensors:
        values = np.concatenate([sample[tensor].ravel() for sample in whole]).astype(np.float64)
        got = seen.tensors[tensor]
        scale = np.abs(values).max() + 1e-12
        assert np.isclose(got.low, values.min(), atol=1e-5 * scale) and np.isclose(
            got.high, values.max(), atol=1e-5 * scale
        )
        assert np.isclose(got.mean, values.mean(), atol=1e-5 * scale)
        assert np.isclose(got.power, np.square(values).mean(), rtol=1e-4)
        assert np.isin(np.round(got.drawn / scale, 4), np.round(values / scale, 4)).mean() > 0.99
        assert abs(got.quantile(0.5) - np.quantile(values, 0.5)) < 0.15 * scale


def test_codes_of_a_quantised_model_are_watched(models: Path, calibration: Path) -> None:
    facts = facts_of(models / "qdq_good.onnx")
    seen = observe(facts, open_source(str(calibration), PRESETS["raw"]), 4)
    codes = {q.codes for q in facts.quantized if q.role == "activation"}
    assert set(seen.tensors) == codes
    assert all(o.low == round(o.low) and -128 <= o.low <= o.high <= 255 for o in seen.tensors.values())


def test_what_is_kept_does_not_grow_with_the_samples() -> None:
    facts = measure(
        as_model(onnx_text("agraph (float[N, 4096] x) => (float[N, 4096] y) { y = Sigmoid(x) }")), SCHEME_LIST
    )
    data = np.random.default_rng(0).standard_normal((256, 4096)).astype(np.float32)
    for count in (16, 256):
        seen = observe(facts, ArraySource("s", {"x": data}), count)
        assert seen.tensors["y"].drawn.size <= DRAWN_VALUES
    assert abs(seen.tensors["x"].quantile(0.99) - np.quantile(data, 0.99)) < 0.05


def test_a_tensor_that_is_not_finite_is_named_and_left_out() -> None:
    model = onnx_text("agraph (float[N, 4] x) => (float[N, 4] y) { h = Log(x)\n y = Sigmoid(h) }")
    facts = measure(as_model(model), SCHEME_LIST)
    seen = observe(facts, ArraySource("s", {"x": np.zeros((2, 4), np.float32)}), 2)
    assert seen.non_finite == ("h",) and "y" in seen.tensors


def test_a_model_that_cannot_run_says_why_in_one_line(models: Path, calibration: Path) -> None:
    facts = facts_of(models / "unknown_domain.onnx")
    with pytest.raises(NotRunnableError) as caught:
        observe(facts, open_source(str(calibration), PRESETS["raw"]), 1)
    assert str(caught.value) == "Fatal error: example.blur:Blur(-1) is not a registered function/op"


def test_an_empty_tensor_has_no_statistics_and_stops_nothing() -> None:
    proto = onnx_text(
        "agraph (float[N, 4] x) => (float[N, 4] y) { h = MatMul(x, w)\n y = MatMul(h, w) }",
        w=np.eye(4, dtype=np.float32),
    )
    facts = measure(as_model(proto), SCHEME_LIST)
    x = facts.model.inputs[0].name

    class Samples(ArraySource):
        def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
            yield {x: np.empty((0, 4), np.float32)}
            yield {x: np.full((2, 4), 3.0, np.float32)}

    seen = observe(facts, Samples("s", {x: np.ones((2, 4), np.float32)}), 2)
    assert (seen.tensors["h"].low, seen.tensors["h"].high, seen.tensors["h"].mean) == (3, 3, 3) and not seen.non_finite
    assert (seen.tensors["h"].drawn == 3).all()
    assert not observe(facts, Samples("s", {x: np.ones((1, 4), np.float32)}), 1).tensors
