"""The site lists every page, and what pages have from the code is what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from pages import names
from pages.commands import commands
from pages.navigation import BENEATH, HOME, RULES, SECTIONS

from onnxlint_q.cli.app import COMMANDS

LISTED = [page for pages in [*SECTIONS.values(), *BENEATH.values()] for page in pages if "*" not in page]


def test_every_page_is_listed_once() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages |= {path.name for path in ROOT.glob("*.md")}
    beneath = {page for page in pages if Path(page).parent == Path(RULES).parent and Path(page).name.startswith("Q")}
    assert pages - beneath - {HOME} == {page for page in LISTED if not page.startswith(("bench", "fixtures"))}
    assert len(set(LISTED)) == len(LISTED) and all((ROOT / page).is_file() for page in LISTED)


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
