"""What a shell offers while a command is typed: the protocol of typer's completion scripts, driven as bash does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_imports import _LISTED, _READS, _RUNS

from onnxlint_q.cli.app import COMMANDS, main
from onnxlint_q.cli.words.completion import vocabulary
from onnxlint_q.glossary import GLOSSARY

Offered = Callable[[str], list[str]]


def bash(line: str) -> dict[str, str]:
    """What bash says of a line with the cursor at its end."""
    words = line.split()
    cursor = len(words) if line.endswith(" ") else len(words) - 1
    return {"_ONNXLINT_Q_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(cursor)}


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offered:
    def of(line: str) -> list[str]:
        for name, value in bash(line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main()
        told = capsys.readouterr()
        assert not told.err
        return told.out.split()

    return of


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("onnxlint-q ", list(COMMANDS)),
        ("onnxlint-q comp", ["compare"]),
        ("onnxlint-q model.onn", []),  # the shell offers files
        ("onnxlint-q --sch", ["--scheme"]),
        ("onnxlint-q --scheme int8-dy", ["int8-dynamic", "int8-dynamic-per-channel"]),
        ("onnxlint-q check m.onnx --scheme int8-dynamic,int8-d", ["int8-dynamic,int8-dynamic-per-channel"]),
        ("onnxlint-q m.onnx --target cuda,tens", ["cuda,tensorrt"]),
        ("onnxlint-q m.onnx --preprocess ", ["imagenet", "tf", "unit", "raw"]),
        ("onnxlint-q m.onnx --preprocess=im", ["imagenet"]),
        ("onnxlint-q m.onnx --fail-on ", ["error", "warning", "info", "none"]),
        ("onnxlint-q m.onnx --fail-on-verdict b", ["breaks"]),
        ("onnxlint-q m.onnx --output-format j", ["json", "json-lines", "junit"]),
        ("onnxlint-q fix m.onnx --output-format j", ["json"]),
        ("onnxlint-q fix m.onnx --select fold", ["fold-batch-norms"]),
        ("onnxlint-q compare a b --observer", []),  # it has none
        ("onnxlint-q m.onnx --ignore QB001,qb002", ["QB001,qb002"]),
        ("onnxlint-q inspect m.onnx --by average", ["average-precision"]),
        ("onnxlint-q rule depth", ["depthwise"]),
        ("onnxlint-q rule outlier-g", ["outlier-gamma"]),
        ("onnxlint-q rule qx001", ["qx001"]),
        ("onnxlint-q rule SQ", ["SQNR"]),
        ("onnxlint-q cheque --sch", ["--scheme"]),
    ],
)
def test_what_fits_is_offered(offered: Offered, line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_every_rule_and_word_is_offered(offered: Offered) -> None:
    words = set(offered("onnxlint-q rule "))
    assert words >= {*vocabulary()["rules"], *vocabulary()["rules"].values()}
    assert words >= {word.replace(" ", "-") for word in GLOSSARY}


RULE = """
from onnxlint_q import Rule
{broken}
class Slow(Rule):
    code: ClassVar[str] = "ZZ001"
    name = "too-slow"


class Abstract(Rule):
    name = "no-code"


class Odd(Rule):
    code, name = "ZZ002", "in-pairs"
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with rules that is on the path, installed as far as entry points tell; none of it can be imported."""
    package, known = tmp_path / "zz_rules", tmp_path / "zz_rules-1.dist-info"
    (package / "inner").mkdir(parents=True)
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: zz-rules\nVersion: 1\n")
    (known / "entry_points.txt").write_text("[onnxlint_q.rules]\nzz = zz_rules\ngone = not_there.at_all\n")
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "inner" / "slow.py").write_text(RULE.format(broken="raise SystemExit('imported')"))
    (package / "broken.py").write_text(RULE.format(broken="class ("))
    monkeypatch.syspath_prepend(str(tmp_path))
    return package


def test_rules_of_plugins_are_offered_without_running_them(offered: Offered, plugin: Path) -> None:
    assert plugin.exists()
    assert offered("onnxlint-q m.onnx --select ZZ") == ["ZZ001"]
    assert offered("onnxlint-q m.onnx --ignore QB001,too-s") == ["QB001,too-slow"]
    assert offered("onnxlint-q rule zz") == ["zz001"]
    assert not any(name.startswith("zz_rules") for name in sys.modules)


def test_without_the_word_check_its_options_are_offered_once(offered: Offered) -> None:
    options = offered("onnxlint-q --")
    assert {"--calibrate", "--version", "--help"} <= set(options) and len(options) == len(set(options))


def test_other_shells_tell_what_an_option_does_without_its_choices() -> None:
    words = {"_ONNXLINT_Q_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    words["_TYPER_COMPLETE_ARGS"] = "onnxlint-q check --pre"
    program = "from onnxlint_q.cli import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | words, stdout=subprocess.PIPE, text=True, check=False
    )
    assert told.stdout.split("\n")[0] == "--preprocess\tPreprocessing of images"


@pytest.mark.parametrize("line", ["onnxlint-q m.onnx --scheme int8", "onnxlint-q m.onnx --select Q"])
def test_completing_loads_nothing_that_reads_a_model(line: str) -> None:
    asked = os.environ | bash(line)
    told = subprocess.run([sys.executable, "-c", _LISTED], env=asked, stdout=subprocess.PIPE, text=True, check=True)
    _, modules = json.loads(told.stdout)
    assert "onnxlint_q.cli.check" in modules
    assert not sorted(set(modules) & (_READS | _RUNS) - {"pydantic"})  # typer checks the words before with it
