"""A model gets the time and the memory that its layers earn, until it has run once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.execute.child import run_apart
from onnxlint_q.execute.first_run import run_once
from onnxlint_q.execute.limits import Asked, Budget, earn_memory, first_run_seconds
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import TooLongError
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Overrides
from onnxlint_q.workflow.check import check, plan
from onnxlint_q.workflow.record import CheckRequest

N = helper.make_node


def info(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = ()) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def endless(folder: Path) -> Path:
    """A loop whose condition stays true."""
    body = helper.make_graph(
        [N("Identity", ["go"], ["on"]), N("Identity", ["v"], ["w"])],
        "body",
        [info("i", TensorProto.INT64), info("go", TensorProto.BOOL), info("v", shape=(4,))],
        [info("on", TensorProto.BOOL), info("w", shape=(4,))],
    )
    nodes = [N("Loop", ["", "true", "x"], ["z"], body=body), N("MatMul", ["z", "m"], ["y"])]
    stored = [
        numpy_helper.from_array(np.asarray(True), "true"),
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "m"),
    ]
    graph = helper.make_graph(nodes, "endless", [info("x", shape=(4,))], [info("y", shape=(4,))], stored)
    path = folder / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def measured(path: Path) -> Measured:
    return measure(read_model(path), ())


def test_a_model_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(TooLongError, match="its first sample took longer than 1 seconds"):
        run_once(measured(endless(tmp_path)), None, Asked(seconds=1))


def test_its_static_findings_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxlint_q.execute.first_run.first_run_seconds", lambda *_: 0.2)
    (model,) = check(plan([endless(tmp_path)], Overrides(search=False)), CheckRequest(probe=True)).models
    (finding,) = [one for one in model.findings if one.name == "probe-failed"]
    assert "its first sample took longer" in finding.message and model.layers


def test_one_that_runs_says_nothing(models: Path) -> None:
    run_once(measured(models / "healthy_resnet.onnx"), None)


def test_work_earns_time() -> None:
    tiny, photograph = first_run_seconds(10, 1000), first_run_seconds(300, 4_000_000_000)
    assert tiny < 4 and 15 < photograph < 60
    assert first_run_seconds(50_000, 0) > 20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_results_of_layers_earn_memory_up_to_a_limit() -> None:
    assert run_apart(_Limit(()), silent, budget=Budget(1 << 30, 60)) == 1 << 30
    assert run_apart(_Limit((1 << 20,)), silent, budget=Budget(1 << 30, 60)) == (1 << 30) + (96 << 20)
    assert run_apart(_Limit((1 << 40,)), silent, budget=Budget(1 << 30, 60)) == (1 << 30) + (9 << 28)


class _Limit:
    """The limit of a process that earned so much."""

    def __init__(self, earned: tuple[int, ...]) -> None:
        self.earned = earned

    def __call__(self, _: Progress) -> int:
        import resource

        for values in self.earned:
            earn_memory(values)
        return resource.getrlimit(resource.RLIMIT_DATA)[0]
