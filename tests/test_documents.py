"""Every block of code in the documents runs as it is printed, or is what it says it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx.parser
import pytest
from conftest import FIXTURES, ROOT
from printed import command, photos, split

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(onnxlint-q\s[^`]*)`")
# What names of the documents stand for, where they stand for the reader's own.
STANDS_FOR = {
    "model.onnx": FIXTURES / "models" / "depthwise_spread.onnx",
    "float.onnx": FIXTURES / "models" / "depthwise_spread.onnx",
    "int8.onnx": FIXTURES / "models" / "qdq_per_tensor_depthwise.onnx",
}
# Commands that set up or test the project; `.ci/run` runs those of `.venv` as they are printed, in a fresh environment.
_SET_UP = (
    "python3 -m venv .venv",
    ".venv/bin/python -m pip",
    ".venv/bin/python -m pytest",
    "pip install .",
    "pip wheel",
    "pipx install .",
    "uv tool install .",
)


@dataclass(frozen=True)
class Block:
    """One block of code of a document."""

    document: Path
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    """The blocks in one of these languages; the empty one is none."""
    for document in DOCUMENTS:
        for language, text in _FENCE.findall(document.read_text("utf-8")):
            if language in languages:
                yield Block(document, language, text)


def printed_commands() -> list[list[str]]:
    """The commands of all shells, and those within sentences that have arguments."""
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    said = (words.split() for path in DOCUMENTS for words in _INLINE.findall(path.read_text("utf-8")))
    inline = (" ".join(words) for words in said if len(words) > 2)
    return [words for line in dict.fromkeys([*lines, *inline]) for words in split(line)]


COMMANDS = printed_commands()
PROGRAMS = list(blocks("python"))
LINTS = [words for words in COMMANDS if Path(words[0]).name == "onnxlint-q"]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder where the files lie that the documents name."""
    for name, stored in STANDS_FOR.items():
        shutil.copy(stored, tmp_path / name)
    shutil.copytree(FIXTURES, tmp_path / "fixtures")
    (tmp_path / "models").mkdir()
    shutil.copy(FIXTURES / "models" / "opset11.onnx", tmp_path / "models")
    photos(tmp_path / "photos")
    return tmp_path


@pytest.mark.parametrize("words", LINTS, ids=" ".join)
def test_a_printed_command_runs(
    words: list[str], desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    code, out, err = command(words[1:], monkeypatch, capsys)
    assert code in {0, 1} and out and not err, err
    for name in re.findall(r"(?:--html |json=|sarif=)(\S+)", " ".join(words)):
        assert (desk / name).stat().st_size


def test_other_commands_are_those_that_set_up_and_test() -> None:
    others = [" ".join(words) for words in COMMANDS if words not in LINTS]
    assert others and all(other.startswith(_SET_UP) for other in others)
    set_up = (ROOT / ".ci" / "run").read_text()
    for mark in re.findall(r"<!-- (\w+) -->", (ROOT / "README.md").read_text("utf-8")):
        assert mark in set_up


def test_a_printed_configuration_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(blocks("toml"))
    assert found
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        model = str(FIXTURES / "models" / "opset11.onnx")
        code, out, err = command(["config", "--show", "--config", str(file), model], monkeypatch, capsys)
        assert code == 0 and not err, err
        for key, value in tomllib.loads(block.text).items():
            if isinstance(value, str):
                assert f"{key} = {value}  (" in out


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.document.name)
def test_a_printed_program_runs(block: Block, desk: Path) -> None:
    (desk / "program.py").write_text(block.text)
    done = subprocess.run([sys.executable, "program.py"], cwd=desk, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    for shown in re.findall(r"print\(error\)  # (.+)", block.text):
        assert done.stdout == f"{shown}\n"


def test_the_hook_is_the_one_that_there_is(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entry = re.search(r"entry: onnxlint-q (.*)", hook)
    found = [block.text for block in blocks("yaml") if "hooks:" in block.text]
    assert found and entry
    monkeypatch.chdir(desk)
    for text in found:
        assert re.findall(r"- id: (\S+)", text) == re.findall(r"- id: (\S+)", hook)
        arguments = [word for told in re.findall(r"args: \[(.*)\]", text) for word in told.split(", ")]
        code, out, err = command([*entry[1].split(), *arguments, "model.onnx"], monkeypatch, capsys)
        assert code in {0, 1} and out and not err, err


def test_a_printed_workflow_runs_and_uploads_what_it_wrote(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    found = [block.text for block in blocks("yaml") if "steps:" in block.text]
    assert found
    for text in found:
        for words in (words for line in re.findall(r"- run: (onnxlint-q .*)", text) for words in split(line)):
            code, out, err = command(words[1:], monkeypatch, capsys)
            assert code in {0, 1} and out and not err, err
        (uploaded,) = re.findall(r"sarif_file: (\S+)", text)
        assert json.loads((desk / uploaded).read_text("utf-8"))["runs"]
        assert f"hashFiles('{uploaded}')" in text


def test_what_has_no_language_is_a_model_or_an_output() -> None:
    for block in blocks(""):
        if block.document.parent.name == "rules":
            for text in re.split(r"^# (?:Float|Quantised)$", block.text, flags=re.MULTILINE):
                if text.strip():
                    assert onnx.parser.parse_model(text).graph.node, block.document
        elif block.text.startswith("$ onnxlint-q "):
            asked, _, shown = block.text.partition("\n")
            recorded = [path.read_text("utf-8") for path in (ROOT / "tests" / "acceptance").glob("*.txt")]
            (whole,) = (text for text in recorded if text.startswith(f"{asked}\n"))
            told = " ".join(whole.split())
            pieces = (" ".join(piece.split()) for piece in re.split(r"^…$", shown, flags=re.MULTILINE))
            for piece in filter(None, pieces):
                assert piece in told, "record it again, and change both"
                told = told.partition(piece)[2]
        else:
            assert block.document.name in {"scorecard.md", "forecast.md"}, block.text


def test_languages() -> None:
    said = {language for path in DOCUMENTS for language, _ in _FENCE.findall(path.read_text("utf-8"))}
    assert said <= {"", "python", "sh", "toml", "yaml"}, "a language that no test here runs"
