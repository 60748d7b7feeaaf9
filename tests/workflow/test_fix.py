"""`fix`: a file that computes the same and quantises better, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import Array, run

import onnxlint_q
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.cli.app import main
from onnxlint_q.cli.words.files import parse_written
from onnxlint_q.errors import ModelError, UsageError
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts, foresee
from onnxlint_q.workflow.mending import fix as workflow
from onnxlint_q.workflow.mending.mend import Selection


def fix(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["onnxlint-q", "fix", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def sample(model: Path) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    proto = onnx.load(model)
    stored = {tensor.name for tensor in proto.graph.initializer}
    return {
        value.name: rng.normal(size=[dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in proto.graph.input
        if value.name not in stored
    }


def test_the_file_computes_the_same_and_quantises_better(
    models: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, made = models / "near_zero_variance.onnx", tmp_path / "made.onnx"
    told = tmp_path / "told.json"
    code, out, err = fix(
        capsys, monkeypatch, given, "-o", made, "--calibrate", calibration, "--output-format", f"json={told}"
    )
    assert (code, err) == (0, "") and f"Written: {made}" in out.replace("\n", "")
    document = json.loads(told.read_text())
    scheme = document["schemes"]["int8-per-tensor"]
    assert scheme["after"]["output_sqnr_db"] > scheme["before"]["output_sqnr_db"] + 3
    onnx.checker.check_model(str(made), full_check=True)
    feed = sample(given)
    for before, after in zip(run(onnx.load(given), feed), run(onnx.load(made), feed), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
    assert [value.name for value in onnx.load(made).graph.input] == [
        value.name for value in onnx.load(given).graph.input
    ]


def test_a_diff_writes_nothing(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = shutil.copy(models / "near_zero_variance.onnx", tmp_path / "m.onnx")
    before = Path(given).read_bytes()
    code, out, _ = fix(capsys, monkeypatch, given, "--diff")
    assert code == 0 and "Would change" in out and "Written" not in out
    assert Path(given).read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_in_place_replaces_the_model_and_its_weights(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("external_data.onnx", "external_data.onnx.data"):
        shutil.copy(models / name, tmp_path)
    given = tmp_path / "external_data.onnx"
    feed = sample(given)
    before = run(onnx.load(given), feed)
    code, _, err = fix(capsys, monkeypatch, given, "--in-place")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["external_data.onnx", "external_data.onnx.data"]
    for one, other in zip(before, run(onnx.load(given), feed), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("models/qdq_good.onnx", "the model is quantised already"),
        ("models/unknown_domain.onnx", "ONNX Runtime cannot run the model"),
        ("broken/truncated.onnx", "the protobuf is corrupt or truncated"),
        ("broken/cyclic.onnx", "cycle"),
    ],
)
def test_what_cannot_be_fixed_is_said_and_nothing_is_written(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    reason: str,
) -> None:
    code, out, err = fix(capsys, monkeypatch, models.parent / name, "-o", tmp_path / "out.onnx")
    assert code == 2 and not out and reason in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_where_the_model_goes_has_to_be_said_once_and_replaces_nothing(tmp_path: Path, models: Path) -> None:
    given = Path(shutil.copy(models / "near_zero_variance.onnx", tmp_path / "m.onnx"))
    data = Path(shutil.copy(models / "near_zero_variance.onnx", tmp_path / "data.npz"))

    def refusal(out: Path | None = None, *, in_place: bool = False, diff: bool = False) -> str:
        with pytest.raises(UsageError) as caught:
            parse_written(str(given), out, in_place=in_place, diff=diff, read=[str(data)])
        return str(caught.value)

    assert refusal().startswith("say where the changed model goes: ")
    assert refusal(tmp_path / "o.onnx", diff=True) == "-o and --diff contradict each other; leave one out"
    assert refusal(in_place=True, diff=True) == "--in-place and --diff contradict each other; leave one out"
    assert refusal(given).endswith(f"{given}; --in-place changes the model itself")
    assert refusal(data).endswith(f"{data}; name another file with -o")
    assert "it is a folder" in refusal(tmp_path)
    assert parse_written(str(given), None, in_place=True, diff=False) == (given, given)
    with pytest.raises(UsageError, match=r"^--diff and --quiet contradict each other; leave one out$"):
        parse_written(str(given), None, in_place=False, diff=True, quiet=True)


def test_a_wrong_name_of_a_rewrite_is_told_with_the_right_ones(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = fix(capsys, monkeypatch, models / "near_zero_variance.onnx", "--diff", "--select", "constant-chan")
    assert code == 2 and "rewrite 'constant-chan': choose from" in err and "constant-channels" in err


def test_programs_fix_what_is_no_file(models: Path, tmp_path: Path) -> None:
    proto = onnx.load(models / "near_zero_variance.onnx")
    fixed = onnxlint_q.fix(proto, tmp_path / "made.onnx", samples=8)
    assert fixed.path == "<model>" and fixed.applied and fixed.verification.synthetic
    assert (tmp_path / "made.onnx").is_file()
    for form in ("full", "json", "html"):
        assert "constant-channels" in onnxlint_q.render(fixed, form)
    with pytest.raises(UsageError, match="choose from full, json, html"):
        onnxlint_q.render(fixed, "sarif")


def test_no_report_replaces_the_model_that_is_made(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made.onnx"
    code, _, err = fix(capsys, monkeypatch, models / "opset11.onnx", "-o", made, "--html", made)
    assert code == 2 and "would replace a file of this run" in err and not list(tmp_path.iterdir())


def test_what_the_given_file_lacks_is_not_asked_of_the_fixed_one(models: Path, tmp_path: Path) -> None:
    """An output without a shape does not pass onnx.checker, and programs load it all the same."""
    proto = onnx.load(models / "near_zero_variance.onnx")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "given.onnx")
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(tmp_path / "given.onnx"))
    assert onnxlint_q.fix(tmp_path / "given.onnx", tmp_path / "made.onnx", samples=4).applied
    assert (tmp_path / "made.onnx").is_file()


def test_a_file_that_programs_cannot_load_is_not_kept(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(path: Path) -> None:
        if path.name == "made.onnx":
            raise NotRunnableError(f"{path}: no kernel")

    monkeypatch.setattr(workflow, "load_as_deployed", refuses)
    request = workflow.FixRequest(tmp_path / "made.onnx")
    with pytest.raises(ModelError) as caught:
        workflow.fix(models / "near_zero_variance.onnx", (), Config(), request, apart=False)
    assert str(caught.value).endswith("is not kept: ONNX Runtime does not load it: made.onnx: no kernel")
    assert not list(tmp_path.iterdir())


def test_local_functions_become_nodes_and_it_is_said(models: Path, tmp_path: Path) -> None:
    fixed = onnxlint_q.fix(models / "local_function.onnx", tmp_path / "made.onnx")
    assert "1 local function: nodes take the place of each call in what is written" in fixed.notes
    assert not onnx.load(tmp_path / "made.onnx").functions


def test_what_describes_the_model_is_kept(models: Path, tmp_path: Path) -> None:
    proto = onnx.load(models / "near_zero_variance.onnx")
    proto.doc_string, proto.graph.doc_string, proto.producer_name = "whole", "graph", "somebody"
    proto.metadata_props.add(key="author", value="me")
    proto.opset_import.add(domain="com.example", version=3)
    onnx.save(proto, tmp_path / "given.onnx")
    assert onnxlint_q.fix(tmp_path / "given.onnx", tmp_path / "made.onnx").applied
    made = onnx.load(tmp_path / "made.onnx")
    assert (made.doc_string, made.graph.doc_string, made.producer_name) == ("whole", "graph", "somebody")
    assert made.metadata_props == proto.metadata_props and made.graph.name == proto.graph.name
    assert [(one.domain, one.version) for one in made.opset_import] == [
        (one.domain, one.version) for one in proto.opset_import
    ]
    assert list(made.graph.input) == list(proto.graph.input) and list(made.graph.output) == list(proto.graph.output)


def test_what_was_not_changed_is_linted_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Measured] = []

    def watched(measured: Measured) -> Facts:
        seen.append(measured)
        return foresee(measured)

    monkeypatch.setattr("onnxlint_q.workflow.mending.mend.foresee", watched)
    for select, times in (("mask-values", 1), ("fold-batch-norms", 2)):
        seen.clear()
        request = workflow.FixRequest(selection=Selection((select,)))
        fixed = workflow.fix(models / "near_zero_variance.onnx", (), Config(), request, apart=False)
        assert len(seen) == times and bool(fixed.applied) == (times == 2)
