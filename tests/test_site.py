"""The site lists every page, and what pages have from the code is what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from pages import names, navigation
from pages.commands import commands

from onnxlint_q.cli.app import COMMANDS


def test_every_page_is_listed_once() -> None:
    navigation.check(ROOT)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda root: (root / "docs" / "lost.md").write_text("# Lost\n"), "docs/lost.md: has to be listed"),
        (lambda root: (root / "docs" / "usage.md").unlink(), "docs/usage.md: listed .* not there"),
    ],
)
def test_a_list_that_does_not_fit_stops_the_build(change: Callable[[Path], object], why: str, tmp_path: Path) -> None:
    for page in [navigation.HOME, *navigation.listed()]:
        if "*" not in page:
            (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / page).touch()
    navigation.check(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=why):
        navigation.check(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_row(command: str) -> None:
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    asked = [sys.executable, "-m", "onnxlint_q", command, "--help"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, env=env).stdout
    section = commands().split(f"\n## {command}\n")[1].split("\n## ")[0]
    options = set(re.findall(r"^│ [ *]*(--[a-z-]+)", told, re.MULTILINE)) - {"--help"}
    assert options
    assert {f"`{word}`" for word in options} <= set(re.findall(r"`--[a-z-]+`", section))


def test_a_public_name_without_docstring_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxlint_q

    def bare() -> None: ...

    monkeypatch.setattr(onnxlint_q, "lint", bare)
    with pytest.raises(ValueError, match="lint: no docstring"):
        names.names()


def test_an_option_without_help_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from onnxlint_q.cli import rule

    def bare(code: str = typer.Option(help="Told."), other: str = "") -> None:
        """Told."""

    monkeypatch.setattr(rule, "rule", bare)
    with pytest.raises(ValueError, match="rule --other: no help"):
        commands()
