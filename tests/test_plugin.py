"""The rule package of `docs/plugin`, installed as its users would, from the command line and from a program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx.parser
import pytest
from conftest import ROOT

import onnxlint_q
from onnxlint_q import Example, Finding, Rule
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.workflow.judging import judge

PLUGIN = ROOT / "docs" / "plugin"
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [first] hidden = HardSwish(x)
  [second] squashed = Sigmoid(hidden)
  [third] y = HardSwish(squashed)
}
"""
PROGRAM = """
import onnxlint_q
result = onnxlint_q.lint("model.onnx", select="NPU")
(finding,) = result.findings
print(type(finding).__name__, finding.code, finding.location.node, finding.severity, finding.metrics["nodes"])
(other,) = onnxlint_q.lint("model.onnx", select="NPU", config="onnxlint-q.toml").findings
print(other.location.node, other.severity)
"""
TEST = "import test_rules\ntest_rules.test_examples()\nprint('passed')"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into; nothing is asked of the network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, str(folder / "site"), str(folder / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    options = '[rules.leaves-accelerator]\noperators = "Sigmoid"\n[severity]\nNPU001 = "error"\n'
    (tmp_path / "onnxlint-q.toml").write_text(options)
    return tmp_path


def run(installed: Path, desk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, *words],
        cwd=desk,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_runs_it(installed: Path, desk: Path) -> None:
    check = ("-m", "onnxlint_q", "model.onnx", "--select", "NPU", "--output-format", "concise")
    plain = run(installed, desk, *check, "--no-config")
    assert plain.returncode == 1 and not plain.stderr
    assert "NPU001 leaves-accelerator warning" in plain.stdout and "2 nodes run HardSwish in float" in plain.stdout
    configured = run(installed, desk, *check)
    assert "NPU001 leaves-accelerator error" in configured.stdout and "1 node runs Sigmoid" in configured.stdout


def test_the_command_line_explains_it(installed: Path, desk: Path) -> None:
    page = run(installed, desk, "-m", "onnxlint_q", "rule", "npu001").stdout
    assert "NPU001 leaves-accelerator\nseverity warning, confidence high, from onnxlint-q-npu\n" in page
    assert "## What to do" in page and "operators = 'HardSwish, Gelu, LayerNormalization': operators that run" in page
    assert "NPU001  leaves-accelerator" in run(installed, desk, "-m", "onnxlint_q", "rule").stdout


def test_a_program_runs_it(installed: Path, desk: Path) -> None:
    done = run(installed, desk, "-c", PROGRAM)
    assert not done.stderr and done.stdout == "Finding NPU001 first warning 2\nsecond error\n", done.stderr


def test_its_own_test_runs(installed: Path, desk: Path) -> None:
    shutil.copy(PLUGIN / "test_rules.py", desk)
    done = run(installed, desk, "-c", TEST)
    assert done.stdout == "passed\n", done.stderr


def test_it_imports_public_names_only() -> None:
    lines = [
        line for path in PLUGIN.rglob("*.py") for line in path.read_text("utf-8").splitlines() if "onnxlint_q" in line
    ]
    own = [line for line in lines if line.startswith("from onnxlint_q_npu")]
    assert own and all(line.startswith("from onnxlint_q import ") for line in lines if line not in own)


# -- check_examples ----------------------------------------------------------------------------------------------------

RELU = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { [node] y = Relu(x) }'


class Silent(Rule):
    """Finds nothing."""

    code, name, severity = "ZZZ001", "silent", onnxlint_q.Severity.INFO
    good, bad = (Example(RELU),), (Example(RELU, flags=("node",)),)

    def check(self, facts: onnxlint_q.Facts) -> list[Finding]:  # type: ignore[override]
        return []


class Loud(Silent):
    """Finds every node."""

    name = "loud"

    def check(self, facts: onnxlint_q.Facts) -> list[Finding]:  # type: ignore[override]
        return [self.finding(facts.model.locate(node), "here", remedy="go") for node in facts.model.nodes]


def test_examples_that_are_not_what_they_say_are_told() -> None:
    with pytest.raises(AssertionError, match=r"^bad example 0 names 'node', and silent flags nothing$"):
        onnxlint_q.check_examples(Silent())
    with pytest.raises(AssertionError, match=r"^good example 0 names nothing, and loud flags 'node'$"):
        onnxlint_q.check_examples(Loud())


class Wordy(Silent):
    """Says what it found in words."""

    def check(self, facts: onnxlint_q.Facts) -> list[str]:  # type: ignore[override]
        return ["node: here"]


def test_what_is_no_finding_is_not_left_out(models: Path) -> None:
    facts = facts_of(read_model(models / "healthy_resnet.onnx"), DEFAULT_SCHEMES)
    (crash,) = judge(facts, (Wordy(),), Config())
    assert crash.code == "QX001" and "check gave a str, which is no Finding" in crash.message
    with pytest.raises(TypeError, match="check gave a str"):
        onnxlint_q.check_examples(Wordy())


def test_a_rule_without_examples_is_not_shown() -> None:
    class Bare(Loud):
        """Has none."""

        good = bad = ()  # type: ignore[assignment]

    with pytest.raises(AssertionError, match=r"^loud has no good example; loud has no bad example$"):
        onnxlint_q.check_examples(Bare())
