"""Which outputs hold the scores of classes, and what the verdict of a model makes of that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.rule import Example
from onnxlint_q.judge.testing import example_facts, example_model
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Basis, ModelResult

NET = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 8] x) => (float[N, 8] y)
<float[8, 8] w, float[8] c = {{1, 2, 3, 4, 5, 6, 7, 8}}, int64[1] axes = {{1}}> {{
  h = MatMul(x, w)
{end}
}}
"""


def net(end: str) -> Example:
    return Example(NET.format(end=end), weights=lambda random: {"w": random.normal(size=(8, 8)).astype(np.float32)})


SCORES = {
    "logits": "  y = Add(h, c)",
    "softmax": "  y = Softmax(h)",
    "log softmax, cast": "  s = LogSoftmax(h)\n  y = Cast<to = 1>(s)",
    "softmax spelt out": "  e = Exp(h)\n  s = ReduceSum<keepdims = 1>(e, axes)\n  y = Div(e, s)",
    "logits over a temperature": "  y = Div(h, c)",
    "relu at the end": "  y = Relu(h)",
}
OTHERS = {
    "sigmoid": "  y = Sigmoid(h)",
    "tanh": "  y = Tanh(h)",
    "unit norm": "  n = ReduceL2<axes = [1], keepdims = 1>(h)\n  y = Div(h, n)",
    "normalised": "  y = LpNormalization(h)",
    "batch norm": "  y = BatchNormalization(h, c, c, c, c)",
    "sum of two": "  g = Relu(h)\n  y = Add(g, h)",
}


@pytest.mark.parametrize("end", SCORES.values(), ids=SCORES)
def test_scores_of_classes(end: str) -> None:
    assert example_facts(net(end)).is_classifier


@pytest.mark.parametrize("end", OTHERS.values(), ids=OTHERS)
def test_other_outputs(end: str) -> None:
    assert not example_facts(net(end)).is_classifier


def linted(tmp_path: Path, example: Example, *, probe: bool = False) -> ModelResult:
    onnx.save(example_model(example), tmp_path / "m.onnx")
    data = {"x": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)}
    request = CheckRequest(DataRequest(ArraySource("s", data), 8), probe=probe)
    return lint(tmp_path / "m.onnx", [], Config(), request)


def test_only_a_classifier_is_judged_by_its_largest_value(tmp_path: Path) -> None:
    for end, agrees in (("  y = Add(h, c)", True), ("  y = Tanh(h)", False)):
        result = linted(tmp_path, net(end))
        assert [scheme.basis for scheme in result.schemes] == [Basis.MEASURED] * 2
        assert all((scheme.agreement is not None) is agrees for scheme in result.schemes)


@pytest.mark.parametrize("probe", [False, True])
def test_a_model_without_anything_to_quantise_gets_no_verdict(tmp_path: Path, probe: bool) -> None:
    text = '<ir_version: 8, opset_import: ["" : 13]>\nnet (float[N, 8] x) => (float[N, 8] y) {\n  y = Erf(x)\n}'
    result = linted(tmp_path, Example(text), probe=probe)
    assert [(s.verdict, s.output_sqnr_db) for s in result.schemes] == [(None, None)] * 2
    assert all(scheme.note.startswith("nothing to quantise") for scheme in result.schemes)
