"""What QR004 says of a file, beside the model that ONNX Runtime makes of it."""

from __future__ import annotations

import platform
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.finding import Finding
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q_rules.runtime.branches_in_float import BranchesInFloat


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="of other processors the rule says nothing")
@pytest.mark.parametrize("name", ["qdq_good", "qdq_per_tensor_depthwise"])
def test_the_operators_that_it_names_are_in_float_after_optimisation(models: Path, tmp_path: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    said = list(BranchesInFloat().check(facts_of(read_model(path), DEFAULT_SCHEMES)))
    named = {place.node for one in said if isinstance(one, Finding) for place in (one.location, *one.places)}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    left = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert named and named == {node.name for node in left if node.op_type in {"Conv", "Gemm", "Add"}}


def test_other_targets_have_kernels_of_their_own(models: Path) -> None:
    facts = facts_of(read_model(models / "qdq_good.onnx"), DEFAULT_SCHEMES).meant_for(("tensorrt",))
    (said,) = BranchesInFloat().check(facts)
    assert not isinstance(said, Finding)
