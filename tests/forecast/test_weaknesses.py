"""What the forecast cannot model is named with its reason; what goes wrong in it is told and never hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.forecast.forward import RULES, propagate
from onnxlint_q.forecast.network import NoiseModel, noise_model
from onnxlint_q.forecast.step import Site, Step
from onnxlint_q.graph import read_model
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.testing import example_facts

FIXTURES = Path(__file__).parents[2] / "fixtures" / "models"
SHARED = Path(__file__).parents[2] / "../shared/models"


def network(path: Path) -> NoiseModel | None:
    measured = measure(read_model(path), DEFAULT_SCHEMES)
    return noise_model(measured) if measured.is_float else None


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.onnx")), ids=lambda path: path.stem)
def test_no_rule_fails_on_a_fixture(path: Path) -> None:
    made = network(path)
    assert made is None or made.failures == ()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public networks are not beside this checkout")
@pytest.mark.parametrize("path", sorted(SHARED.glob("*.onnx")), ids=lambda path: path.stem)
def test_no_rule_fails_on_a_public_network(path: Path) -> None:
    made = network(path)
    assert made is None or made.failures == ()


@pytest.mark.parametrize("rule", [entry.rule for entry in load_rules()], ids=lambda rule: rule.code)
def test_no_rule_fails_on_the_examples_of_the_rules(rule: type[Rule]) -> None:
    forecasts = [made for example in (*rule.good, *rule.bad) for made in example_facts(example).forecasts.values()]
    if not forecasts:
        pytest.skip("its examples are quantised files, of which there is no forecast")
    assert all(made.failures == () for made in forecasts)


# Inputs x [1, 4, 6, 6] and v [1, 8]; what is written has an axis, a size or an operand that cannot be.
ODD = {
    "Transpose": "y = Transpose <perm = [0, 1, 2, 9]> (x)",
    "Split": "y, z = Split <axis = 7> (x)",
    "Squeeze": "y = Squeeze <axes = [1]> (x)",
    "Concat": "y = Concat <axis = 1> (x, v)",
    "Gather": "y = Gather <axis = 1> (x, far)",
    "Add": "y = Add(x, seven)",
    "Where": "c = Less(x, x)\n y = Where(c, x, seven)",
    "Softmax": "y = Softmax <axis = 9> (x)",
    "ReduceMean": "y = ReduceMean <axes = [9]> (x)",
    "ReduceMax": "y = ReduceMax <axes = [-9]> (x)",
    "ReduceL2": "y = ReduceL2 <axes = [9]> (x)",
    "MatMul": "y = MatMul(x, v)",
    "Conv": "y = Conv(x, kernel)",
    "Gemm": "y = Gemm(v, matrix)",
    "BatchNormalization": "y = BatchNormalization(x, three, three, three, three)",
    "InstanceNormalization": "y = InstanceNormalization(x, three, three)",
    "Slice": "y = Slice <axes = [9], starts = [0], ends = [1]> (x)",
    "Pad": "y = Pad(x, pads, zero, ninth)",
    "Unsqueeze": "y = Unsqueeze(x, ninth)",
    "Clip": "y = Clip(x, x, x)",
}
ARRAYS: dict[str, Array] = {
    "far": np.asarray([99], np.int64),
    "seven": np.ones(7, np.float32),
    "three": np.ones(3, np.float32),
    "kernel": np.ones((2, 3, 1, 1), np.float32),
    "matrix": np.ones((5, 2), np.float32),
    "pads": np.asarray([1, 1], np.int64),
    "zero": np.zeros((), np.float32),
    "ninth": np.asarray([9], np.int64),
}


@pytest.mark.parametrize("op_type", ODD)
def test_an_odd_node_is_no_failure_of_the_forecast(op_type: str) -> None:
    body = ODD[op_type]
    used = {name: value for name, value in ARRAYS.items() if name in body}
    text = f"g (float[1, 4, 6, 6] x, float[1, 8] v) => (float[a, b, c, d] y) {{ {body} }}"
    measured = measure(as_model(onnx_text(text, **used)), DEFAULT_SCHEMES)
    made = noise_model(measured)
    assert made.failures == ()
    assert all(reason for reason in made.propagation.unknown.values())


def broken(site: Site) -> Step:
    return Step((site.varying().shape,), ())  # type: ignore[arg-type]  # the fault that is looked for


def test_a_rule_that_fails_is_told_and_the_forecast_goes_on() -> None:
    model = as_model(onnx_text("g (float[1, 4, 6, 6] x) => (float[a, b, c, d] y) { a = Relu(x)\n y = Sigmoid(a) }"))
    found = propagate(model, [], {**RULES, "Relu": broken})
    (failure,) = found.failures
    assert failure.startswith("Relu 'a': AttributeError: 'tuple' object has no attribute 'size' (forward.py:")
    assert "y" in found.samples
