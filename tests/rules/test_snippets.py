"""Everything that a rule prints to be typed runs as it is printed: for its examples, and for all fixtures."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import FIXTURES, ROOT
from onnxruntime.quantization import QuantType
from printed import CALL, as_float, command, photos, quantised, shape, written

from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.calls import exclude_option, quantize_static_call
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.finding import Finding, Requantisation, TensorRange
from onnxlint_q.judge.advice.quantizer_options import overrides, requantised, scheme_options
from onnxlint_q.judge.config import Config, Overrides
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_model, reference_model
from onnxlint_q.proof.testing import run_example
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest

EXAMPLES = [
    pytest.param(entry.rule, example, id=f"{entry.rule.code}-bad{number}")
    for entry in load_rules()
    for number, example in enumerate(entry.rule.bad)
]
# Options do not depend on the model whose finding prints them: each set of them is run once.
RAN: set[str] = set()
NAMES = ('say "x"', "back\\slash", "line\nbreak", "größe", "😀", "/a/b'c")
_RANGE = re.compile(r"'([^']*)': \[\{'rmin': np\.float32\(([^)]*)\), 'rmax': np\.float32\(([^)]*)\)\}")


def run_all(
    findings: Iterable[Finding],
    model: onnx.ModelProto,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run what some findings about the float `model` print, once for each shape of it."""
    snippets = {shape(finding.snippet): finding.snippet for finding in findings if finding.snippet}
    for snippet in snippets.values():
        if snippet.startswith(CALL):
            made = quantised(snippet, model, folder)
            for tensor, low, high in _RANGE.findall(snippet):
                assert scale_of(made, tensor) == pytest.approx((float(high) - float(low)) / 255, rel=1e-4)
        elif snippet.startswith("--"):
            run_with_options(snippet, folder, monkeypatch, capsys)
        elif snippet.startswith("pip "):
            check_install(snippet)
        else:
            written(snippet, folder)


def scale_of(model: onnx.ModelProto, tensor: str) -> float:
    """The scale that a quantised tensor got."""
    values = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    names = {tensor, f"{tensor}_QuantizeLinear_Input"}
    rounding = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in names]
    return float(values[rounding[0].input[1]])


def run_with_options(
    options: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options are added to a lint of a fixture on pictures; `PATH` and `NAME` stand for the reader's."""
    if options in RAN:
        return
    RAN.add(options)
    data = str(photos(folder / "photos"))
    given = [{"PATH": data, "NAME": "tf"}.get(word, word) for word in options.split()]
    words = [str(FIXTURES / "models" / "healthy_resnet.onnx"), "--calibrate", data, "--preprocess", "tf"]
    words = [*words[: 1 if "--calibrate" in given else 3 if "--preprocess" in given else 5], *given]
    code, out, err = command(words, monkeypatch, capsys)
    assert code in {0, 1} and "Measured on" in out and not err, err


def check_install(words: str) -> None:
    """Nothing is installed by a test: the packages are those that the project needs itself."""
    pip, install, upgrade, *names = words.split()
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert (pip, install, upgrade) == ("pip", "install", "--upgrade")
    assert set(names) <= {re.split(r"[<>=]", name)[0] for name in needed}


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_what_is_printed_for_the_examples_runs(
    rule: type[Rule],
    example: Example,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = list(run_example(rule(), example))
    model = reference_model(example) if example.reference else as_float(example_model(example))
    monkeypatch.chdir(tmp_path)
    onnx.save(model, tmp_path / "example.onnx")
    run_all(findings, model, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", sorted(path.stem for path in (FIXTURES / "models").glob("*.onnx")))
def test_what_is_printed_for_the_fixtures_runs(
    name: str,
    models: Path,
    calibration: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in models.glob(f"{name}.*"):
        shutil.copy(path, tmp_path)
    file, source = tmp_path / f"{name}.onnx", open_source(str(calibration), PRESETS["raw"])
    rules = Overrides(search=False).config_for(file).build([entry.rule for entry in load_rules()])
    requests = (CheckRequest(), CheckRequest(DataRequest(source, samples=4)))
    findings = [f for request in requests for f in lint(file, rules, Config(), request).findings]
    monkeypatch.chdir(tmp_path)
    # A file without pairs is the float model itself.
    run_all(findings, as_float(onnx.load(file)), tmp_path, monkeypatch, capsys)


def test_names_are_written_so_that_python_reads_them_back() -> None:
    for name in NAMES:
        seen: dict[str, Any] = {}
        option = overrides([TensorRange(name, -1, 2.5)])
        exec(f"keep({option}, {exclude_option([name])})", {"np": np, "keep": seen.update})
        (ends,) = seen["extra_options"]["TensorQuantOverrides"][name]
        assert (ends["rmin"], ends["rmax"]) == (-1, 2.5) and ends["rmin"].dtype == np.float32
        assert seen["nodes_to_exclude"] == [name] and option.isascii()


def test_what_cannot_be_said_is_not_printed_in_part() -> None:
    assert exclude_option([]) == "" and exclude_option(["a", ""]) == ""
    assert quantize_static_call("per_channel=True", "") == ""


def test_a_call_says_the_type_of_activations_once() -> None:
    unsigned = "quantize_static(..., activation_type=QuantType.QUInt8, per_channel=True)"
    assert quantize_static_call("per_channel=True") == unsigned == requantised(Requantisation(per_channel=True))
    signed = scheme_options(SCHEMES["int8-symmetric"])
    assert signed is not None and quantize_static_call(*signed).count("activation_type=") == 1


def test_a_change_is_one_call() -> None:
    change = Requantisation(True, (TensorRange("t", 0, 1), TensorRange("u", -1, 1)), ("op_types_to_quantize=['Conv']",))
    seen: dict[str, Any] = {}
    known = {"np": np, "QuantType": QuantType, "quantize_static": lambda _, **options: seen.update(options)}
    exec(requantised(change), known)
    assert seen["per_channel"] is True and seen["op_types_to_quantize"] == ["Conv"]
    assert list(seen["extra_options"]["TensorQuantOverrides"]) == ["t", "u"]
