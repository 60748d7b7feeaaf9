"""Two releases of a model: what changed, by which identity, and when it fails a build."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from known_cases import renamed

from onnxlint_q.finding import Confidence, Finding, Location, Severity
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.workflow.diff import Diff, compared
from onnxlint_q.workflow.results import Basis, LayerRow, LayerSqnr, ModelResult, Port, SchemeResult

SCHEME = "int8-per-tensor"


def layer(node: str, db: float | None = 30.0, structure: str = "", op_type: str = "Conv") -> LayerRow:
    forecast = {SCHEME: LayerSqnr(db, db)}
    return LayerRow(node, f"{node}_out", op_type, 1, False, 1.0, 0.5, 20.0, forecast=forecast, structure=structure)


def finding(node: str, code: str = "QW001", structure: str = "") -> Finding:
    where = Location("main", node, "Conv", f"{node}_out")
    return Finding(code, "odd", Severity.WARNING, Confidence.HIGH, "It is.", where, structure=structure or f"s-{node}")


def result(**more: object) -> ModelResult:
    model = ModelResult("m.onnx", "0" * 64, 17, "float", (), (), ())
    return replace(model, **more)  # type: ignore[arg-type]


def judged(verdict: Verdict | None, db: float | None, basis: Basis = Basis.FORECAST) -> ModelResult:
    return result(schemes=(SchemeResult(SCHEME, verdict, db, basis),))


def pairs(changes: Diff) -> list[tuple[str, str]]:
    return [(one.old.node if one.old else "", one.new.node if one.new else "") for one in changes.layers]


def test_layers_are_paired_by_structure_then_name_then_order() -> None:
    old = result(layers=(layer("a", structure="1"), layer("b"), layer("c"), layer("d", op_type="Gemm"), layer("e")))
    new = result(layers=(layer("x", structure="1"), layer("b"), layer("y"), layer("new", op_type="MatMul"), layer("z")))
    assert pairs(compared(old, new)) == [
        ("a", "x"),
        ("b", "b"),
        ("c", "y"),
        ("", "new"),
        ("e", "z"),
        ("d", ""),
    ]


def test_a_name_that_another_layer_has_now_pairs_nothing() -> None:
    old = result(layers=(layer("Conv_1", structure="1"), layer("Conv_2", structure="2")))
    new = result(layers=(layer("Conv_2", structure="1"), layer("Conv_3", structure="2")))
    assert pairs(compared(old, new)) == [("Conv_1", "Conv_2"), ("Conv_2", "Conv_3")]


def test_many_layers_with_nothing_in_common_take_no_time() -> None:
    old = result(layers=tuple(layer(f"a{index}") for index in range(2000)))
    new = result(layers=tuple(layer(f"b{index}") for index in range(2000)))
    assert len(pairs(compared(old, new))) == 4000


def test_a_layer_loses_what_the_better_founded_figures_of_both_say() -> None:
    measured = {SCHEME: LayerSqnr(40.0, 40.0)}
    old, new = layer("a", 30.0), layer("a", 20.0)
    (one,) = compared(result(layers=(old,)), result(layers=(new,))).layers
    assert one.worst is not None and (one.worst.loss_db, one.worst.basis) == (10.0, Basis.FORECAST)
    (one,) = compared(result(layers=(replace(old, measured=measured),)), result(layers=(new,))).layers
    assert one.worst is not None and one.worst.basis is Basis.FORECAST, "a measurement beside a forecast tells nothing"
    before, after = (result(layers=(replace(row, measured=measured),)) for row in (old, new))
    (one,) = compared(before, after).layers
    assert one.worst is not None and (one.worst.loss_db, one.worst.basis) == (0.0, Basis.MEASURED)
    (one,) = compared(result(layers=(layer("a", None),)), result(layers=(new,))).layers
    assert one.worst is None


@pytest.mark.parametrize(
    ("old", "new", "loss", "fails", "told"),
    [
        (judged(Verdict.SURVIVES, 30.0), judged(Verdict.SURVIVES, 28.0), 2.0, False, True),
        (judged(Verdict.SURVIVES, 30.0), judged(Verdict.BREAKS, 3.0), 27.0, True, True),
        (judged(Verdict.SURVIVES, 28.0), judged(Verdict.SURVIVES, 30.0), -2.0, False, True),
        (judged(Verdict.SURVIVES, None), judged(Verdict.SURVIVES, 30.0), math.inf, True, True),
        (judged(Verdict.SURVIVES, None), judged(Verdict.SURVIVES, None), 0.0, False, True),
        (judged(None, None), judged(Verdict.SURVIVES, 30.0), None, False, False),
        (judged(Verdict.SURVIVES, 30.0, Basis.MEASURED), judged(Verdict.SURVIVES, 20.0), None, False, False),
        (result(), judged(Verdict.SURVIVES, 30.0), None, False, False),
    ],
)
def test_a_loss_is_that_of_a_scheme_whose_figures_rest_on_the_same(
    old: ModelResult, new: ModelResult, loss: float | None, fails: bool, told: bool
) -> None:
    changes = compared(old, new, max_loss_db=3.0)
    assert (changes.loss_db, changes.fails, changes.told) == (loss, fails, told)
    assert compared(old, new).told and not compared(old, new).fails, "nobody asked"


def test_findings_of_one_release_only() -> None:
    old = result(findings=(finding("a"), finding("b"), finding("c", structure="7")), suppressed=(finding("d"),))
    new = result(
        findings=(finding("a"), finding("x", structure="7"), finding("d"), finding("e"), finding("b", "QW002"))
    )
    changes = compared(old, new)
    assert [(one.code, one.location.node) for one in changes.appeared] == [("QW001", "e"), ("QW002", "b")]
    assert [(one.code, one.location.node) for one in changes.gone] == [("QW001", "b")]


def test_what_a_rule_says_of_a_layer_with_another_name_and_other_weights_is_not_new() -> None:
    old = result(layers=(layer("a"), layer("b")), findings=(finding("a"), finding("b")))
    new = result(layers=(layer("x"), layer("y")), findings=(finding("x"), finding("y", "QW002")))
    changes = compared(old, new)
    assert [(one.code, one.location.node) for one in changes.appeared] == [("QW002", "y")]
    assert [one.location.node for one in changes.gone] == ["b"]


def test_changes_of_the_interface() -> None:
    a, b, c = (Port(name, "float", "[1]") for name in "abc")
    old = result(ports_in=(a, b, c), ports_out=(a,))
    new = result(ports_in=(b, a, replace(c, shape="[2]")), ports_out=(b,))
    told = [(one.what, one.name, one.moved, one.old is None, one.new is None) for one in compared(old, new).ports]
    assert told == [
        ("input", "a", True, False, False),
        ("input", "b", True, False, False),
        ("input", "c", False, False, False),
        ("output", "a", False, False, True),
        ("output", "b", False, True, False),
    ]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxlint_q", "diff", *map(str, arguments), "--no-config"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_releases_of_one_network(models: Path, tmp_path: Path) -> None:
    old, same, worse = tmp_path / "old.onnx", tmp_path / "same.onnx", tmp_path / "worse.onnx"
    shutil.copy(models / "healthy_resnet.onnx", old)
    shutil.copy(old, same)
    renamed(same)
    done = run(old, same, "--max-loss", "0.5", "--output-format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 0 and not document["new_findings"] and not document["gone_findings"]
    assert all(one["old"] and one["new"] for one in document["layers"]) and not document["interface"]
    assert [one["old"]["node"] != one["new"]["node"] for one in document["layers"]] == [True] * len(document["layers"])

    proto = onnx.load(old)
    held = max((tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4), key=lambda t: t.dims[0])
    weight = onnx.numpy_helper.to_array(held).copy()
    weight[0] *= 400
    held.CopyFrom(onnx.numpy_helper.from_array(weight.astype(np.float32), held.name))
    onnx.save(proto, worse)
    assert run(old, worse).returncode == 0
    done = run(old, worse, "--max-loss", "1")
    assert done.returncode == 1 and "over --max-loss 1" in " ".join(done.stdout.split())
    assert run(old, worse, "--max-loss", "1", "--exit-zero").returncode == 0
    assert run(worse, old, "--max-loss", "1").returncode == 0


def test_what_cannot_be_told_is_no_answer(models: Path, broken: Path, tmp_path: Path) -> None:
    quantised = models / "qdq_good.onnx"
    assert run(quantised, quantised).returncode == 0
    done = run(quantised, quantised, "--max-loss", "1")
    assert done.returncode == 2 and "no scheme has a figure in both releases" in " ".join(done.stdout.split())
    done = run(quantised, broken / "cyclic.onnx")
    assert done.returncode == 2 and not done.stdout and "cyclic.onnx" in done.stderr
    assert "is a folder" in run(tmp_path, quantised).stderr
    done = run(quantised, quantised, "--output-format", f"json={quantised}")
    assert done.returncode == 2 and "would replace a file of this run" in done.stderr
