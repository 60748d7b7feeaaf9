"""Every call of `quantize_static` that a rule prints runs as it is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.finding import Finding
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.quantizer_options import exclude, override
from onnxlint_q.judge.quantizer_options import quantize_static as call
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_model, reference_model
from onnxlint_q.proof.testing import run_example

RULES = [entry.rule for entry in load_rules() if entry.rule.code[:2] in {"QP", "QA", "QC"}]
EXAMPLES = [
    pytest.param(rule, example, id=f"{rule.code}-bad{number}")
    for rule in RULES
    for number, example in enumerate(rule.bad)
]
MODELS = ("qdq_coarse_input", "qdq_per_tensor_depthwise", "qdq_bad_bias_scale", "qdq_invalid_scale")
_CALL = "quantize_static("
_OVERRIDE = re.compile(r'\{"([^"]*)": \[\{"rmin": np\.float32\((.*)\), "rmax": np\.float32\((.*)\)\}')


class _Noise(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Two samples of noise for a model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        random = np.random.default_rng(7)
        shapes = {
            value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim] for value in model.graph.input
        }
        self._samples: Iterator[dict[str, Any]] = iter(
            [{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(2)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._samples, None)


def as_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model that a QDQ file was made of: activations without their pairs, weights dequantised."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    known = as_model(model)
    wire: dict[str, str] = {}
    outputs = {value.name for value in made.graph.output}
    nodes = list(made.graph.node)
    del made.graph.node[:]
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            wire[node.output[0]] = wire.get(node.input[0], node.input[0])
        elif node.op_type == "DequantizeLinear":
            value = known.constant(node.output[0])
            if value is None:
                wire[node.output[0]] = wire.get(node.input[0], node.input[0])
            else:
                made.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
        else:
            made.graph.node.append(node)
    inputs = {value.name for value in made.graph.input}
    for name in [name for name in outputs & wire.keys() if wire[name] in inputs]:
        made.graph.node.append(onnx.helper.make_node("Identity", [wire[name]], [name]))
    back = {wire[name]: name for name in outputs & wire.keys() if wire[name] not in inputs}
    for node in made.graph.node:
        for slot, name in enumerate(node.input):
            node.input[slot] = back.get(wire.get(name, name), wire.get(name, name))
        for slot, name in enumerate(node.output):
            node.output[slot] = back.get(name, name)
    read = {name for node in made.graph.node for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in read]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    return made


def execute(snippet: str, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What a printed call makes of a float model."""
    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(model, source)

    def quantize(rest: EllipsisType, **options: Any) -> None:
        assert rest is ...
        quantize_static(source, target, _Noise(model), **options)

    names: dict[str, Any] = {"CalibrationMethod": CalibrationMethod, "QuantFormat": QuantFormat, "np": np}
    exec(snippet, {**names, "quantize_static": quantize})
    return onnx.load(target)


def check(findings: list[Finding], model: onnx.ModelProto, folder: Path) -> int:
    """Execute the calls of some findings; how many there were."""
    calls = [finding.snippet for finding in findings if finding.snippet.startswith(_CALL)]
    for snippet in calls:
        made = execute(snippet, model, folder)
        onnx.checker.check_model(made)
        given = _OVERRIDE.search(snippet)
        if given is not None:
            low, high = float(given[2]), float(given[3])
            assert scale_of(made, given[1]) == pytest.approx((high - low) / 255, rel=1e-4)
    return len(calls)


def scale_of(model: onnx.ModelProto, tensor: str) -> float:
    """The scale that a quantised tensor got."""
    values = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    names = {tensor, f"{tensor}_QuantizeLinear_Input"}
    rounding = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in names]
    return float(values[rounding[0].input[1]])


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_calls_printed_for_the_examples_run(rule: type[Rule], example: Example, tmp_path: Path) -> None:
    findings = list(run_example(rule(), example))
    model = reference_model(example) if example.reference else as_float(example_model(example))
    printed = check(findings, model, tmp_path)
    assert printed == sum(bool(finding.snippet) for finding in findings) or rule.code == "QP003"


@pytest.mark.parametrize("name", MODELS)
def test_calls_printed_for_the_fixtures_run(name: str, models: Path, calibration: Path, tmp_path: Path) -> None:
    facts = facts_of(read_model(models / f"{name}.onnx"), DEFAULT_SCHEMES)
    source = open_source(str(calibration), PRESETS["raw"])
    seen = facts.inspected(inspect(facts, source, 8)).observed(observe(facts, source, 8))
    findings = [finding for rule in RULES for finding in rule().findings(seen)]
    assert check(findings, as_float(onnx.load(models / f"{name}.onnx")), tmp_path)


def test_names_are_quoted_so_that_python_reads_them_back(tmp_path: Path) -> None:
    for name in ('say "x"', "back\\slash", "line\nbreak", "größe", "😀", "/a/b'c"):
        seen: dict[str, Any] = {}
        exec(f"keep({override(name, -1, 2.5)})", {"np": np, "keep": seen.update})
        (ends,) = seen["extra_options"]["TensorQuantOverrides"][name]
        assert (ends["rmin"], ends["rmax"]) == (-1, 2.5) and ends["rmin"].dtype == np.float32


def test_what_cannot_be_said_is_not_printed_in_part() -> None:
    assert exclude([]) == "" and call(exclude([])) == "" and call("per_channel=True", "") == ""
