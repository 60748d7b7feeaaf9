"""What a command does not use it does not import: half of a short run is imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
MODEL = str(HOME / "fixtures" / "models" / "healthy_resnet.onnx")
# The command in this process, and then what it and the process that it started have loaded.
_LISTED = """
import json, os, sys
from onnxlint_q.cli import main
sys.stdout = open(os.devnull, "w")
sys.argv = ["onnxlint-q", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(sys.modules)]), file=sys.__stdout__)
"""
_RUNS = {"onnxruntime", "PIL", "networkx", "onnxlint_q.execute.variants.workbench", "onnxlint_q.proof.prove"}
_READS = {"numpy", "onnx", "pydantic", "rich.console", "onnxlint_q.graph", "onnxlint_q.judge.registry"}


def loaded(*words: str) -> tuple[int, set[str]]:
    """The exit code, and the modules that are there in the end."""
    told = subprocess.run([sys.executable, "-c", _LISTED, *words], stdout=subprocess.PIPE, text=True, check=True)
    code, modules = json.loads(told.stdout)
    return code, set(modules)


def test_a_static_check_loads_nothing_that_runs_a_model_or_draws_a_page() -> None:
    # With --debug the model is read in the process itself.
    code, modules = loaded(MODEL, "--debug", "--no-config")
    assert code in {0, 1} and "onnxlint_q.forecast.forecast" in modules
    assert not sorted(modules & (_RUNS | {"jinja2"}))


def test_a_page_loads_what_draws_it(tmp_path: Path) -> None:
    _, modules = loaded(MODEL, "--debug", "--no-config", "--html", str(tmp_path / "page.html"))
    assert "jinja2" in modules
    assert not sorted(modules & _RUNS)


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), ([MODEL, "--wrong"], 2), (["check", "--wrong"], 2)])
def test_what_is_told_at_once_loads_nothing_that_reads_a_model(words: list[str], code: int) -> None:
    ended, modules = loaded(*words)
    assert ended == code
    assert not sorted(modules & (_READS | _RUNS))
