"""What other repositories use of this one: the hook, run by pre-commit itself, and the action, step by step."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

MANIFEST = ROOT / ".pre-commit-hooks.yaml"
HEALTHY, BREAKS = "healthy_resnet.onnx", "depthwise_spread.onnx"


def started(words: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A process that finds the program where this Python has it, and no configuration of the machine."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder)}
    environment = {**os.environ, **alone, "PATH": path, **more}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240)


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    done = started(["git", *author, *words], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def committed(folder: Path) -> str:
    """All that is in a folder, as a commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "State")
    return git(folder, "rev-parse", "HEAD")


class Scratch:
    """A repository that uses the hook."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "repository", folder / "home"
        hooks = folder / "hooks"
        for made in (self.folder, self.home, hooks):
            made.mkdir()
        # The environment that pre-commit would build is this one: building it downloads all that is installed here.
        text, changed = re.subn(r"language: python$", "language: system", MANIFEST.read_text(), flags=re.MULTILINE)
        assert changed == 1
        (hooks / ".pre-commit-hooks.yaml").write_text(text)
        rev = committed(hooks)
        config = {"repos": [{"repo": str(hooks), "rev": rev, "hooks": [{"id": "onnxlint-q"}]}]}
        (self.folder / ".pre-commit-config.yaml").write_text(json.dumps(config))

    def run(self) -> subprocess.CompletedProcess[str]:
        git(self.folder, "init", "--quiet")
        git(self.folder, "add", "--all")
        words = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--verbose"]
        return started(words, self.folder, PRE_COMMIT_HOME=str(self.home))


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    pytest.importorskip("pre_commit", reason="pre-commit is not installed; it is in the extra dev")
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return Scratch(tmp_path)


def test_the_manifest_is_one() -> None:
    pytest.importorskip("pre_commit", reason="pre-commit is not installed; it is in the extra dev")
    done = started([sys.executable, "-m", "pre_commit", "validate-manifest", str(MANIFEST)], ROOT)
    assert done.returncode == 0, done.stdout


def test_the_hook_passes_a_model_that_survives_and_skips_what_is_none(scratch: Scratch, models: Path) -> None:
    (scratch.folder / "readme.txt").write_text("nothing to lint")
    done = scratch.run()
    assert done.returncode == 0 and "no files to check" in done.stdout
    shutil.copy(models / HEALTHY, scratch.folder / "a.onnx")
    done = scratch.run()
    assert done.returncode == 0 and "Passed" in done.stdout and "a.onnx: int8-per-tensor survives" in done.stdout


def test_the_hook_fails_a_model_that_breaks_until_it_is_known(scratch: Scratch, models: Path) -> None:
    shutil.copy(models / BREAKS, scratch.folder / "b.onnx")
    done = scratch.run()
    assert done.returncode == 1 and "exit code: 1" in done.stdout and "breaks under int8-per-tensor" in done.stdout
    config = '[[suppress]]\ncode = "near-zero-variance"\nreason = "known"\n'
    (scratch.folder / "onnxlint-q.toml").write_text(config)
    done = scratch.run()
    assert done.returncode == 1 and "3 suppressed" in done.stdout, "the verdict is not suppressed"
    (scratch.folder / "onnxlint-q.toml").write_text(f'fail-on-verdict = "none"\n{config}')
    assert scratch.run().returncode == 0


def test_the_hook_says_what_a_pointer_of_git_lfs_is(scratch: Scratch, broken: Path) -> None:
    shutil.copy(broken / "lfs_pointer.onnx", scratch.folder / "c.onnx")
    done = scratch.run()
    assert done.returncode == 1 and "exit code: 2" in done.stdout and "git lfs pull" in done.stdout


@pytest.fixture
def action() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; pre-commit of the extra dev brings it")
    read: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return read


def test_the_action_reads_its_inputs_and_no_script_holds_one(action: dict[str, Any]) -> None:
    steps = action["runs"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step]
    assert all(step["shell"] == "bash" for step in steps if "run" in step) and "${{" not in "".join(scripts)
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(steps)))
    assert used == set(action["inputs"]) and all(one["description"] for one in action["inputs"].values())


@pytest.mark.parametrize(
    ("models_given", "args", "code", "files"),
    [
        ([HEALTHY], [], 0, {"sarif", "html"}),
        ([HEALTHY, BREAKS], ["--select", "QB"], 1, {"sarif", "html"}),
        ([BREAKS], ["--fail-on-verdict", "none", "--fail-on", "error"], 0, {"sarif", "html"}),
        (["not there.onnx"], [], 2, {"sarif"}),
        ([HEALTHY], ["--select", "$(touch owned)"], 2, set()),
    ],
)
def test_the_action_lints_and_tells_what_it_wrote(
    action: dict[str, Any],
    models: Path,
    tmp_path: Path,
    models_given: list[str],
    args: list[str],
    code: int,
    files: set[str],
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    work = tmp_path / "work"
    work.mkdir()
    for name in (HEALTHY, BREAKS):
        shutil.copy(models / name, work / name)
    told, summary = tmp_path / "output", tmp_path / "summary"
    told.touch()
    summary.write_text("before\n")
    (lint,) = (step for step in action["runs"]["steps"] if step.get("id") == "lint")
    given = {"MODELS": "\n".join(models_given), "ARGS": "\n".join(args), "SUMMARY": "true"}
    assert set(given) == set(lint["env"])
    places = {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(told), "GITHUB_STEP_SUMMARY": str(summary)}
    # The options that GitHub starts bash with.
    done = started(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", lint["run"]], work, **given, **places)
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert outputs.pop("exit-code") == str(code) and set(outputs) == files
    assert all(Path(path).stat().st_size for path in outputs.values())
    assert summary.read_text().startswith("before\n") and ("### onnxlint-q: " in summary.read_text()) == bool(files)
    assert {path.name for path in work.iterdir()} == {HEALTHY, BREAKS}
    last = action["runs"]["steps"][-1]
    assert started(["bash", "-c", last["run"]], work, CODE=str(code)).returncode == code
