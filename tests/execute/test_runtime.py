"""ONNX Runtime is imported when something runs, and leaves no trace of a run but what was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FIXTURES

MODEL = str(FIXTURES / "models" / "opset11.onnx")
RUNS = {
    "static": [MODEL],
    "calibrated": [MODEL, "--calibrate", "random", "--samples", "2"],
    "probed": [MODEL, "--probe"],
    "compared": [
        "compare",
        MODEL,
        str(FIXTURES / "models" / "qdq_good.onnx"),
        "--calibrate",
        "random",
        "--samples",
        "2",
    ],
}


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The linter in one process, for a user whose home, cache and temporary folder lie in `home`, outside any CI."""
    folders = {name: home / name.lower() for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for folder in folders.values():
        folder.mkdir()
    environment = {name: str(folder) for name, folder in folders.items()}
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-B", "-m", "onnxlint_q", *arguments, "--debug"],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=environment,
    )


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_written_that_was_not_asked_for(name: str, tmp_path: Path) -> None:
    """The official builds write a device identifier and a database at import if nobody forbids it before."""
    done = run(tmp_path, *RUNS[name])
    assert done.returncode in {0, 1}, done.stderr[-500:]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert ("onnxruntime" in done.stderr) == (name != "static"), "imported exactly where something runs"
