"""The pages of rules and rewrites are complete, and are those that these make."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from onnxlint_q.judge.own_findings import OWN_FINDINGS, OwnFinding
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.rewrite.table import REWRITES

FOLDER = Path(__file__).parents[2] / "docs"
RULES = [pytest.param(entry.rule, id=f"{entry.rule.code}-{entry.rule.name}") for entry in load_rules()]


def _load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", FOLDER / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = _load_build()


@pytest.mark.parametrize("rule", RULES)
def test_docstring_has_all_sections_in_order(rule: type[Rule]) -> None:
    parts = BUILD.sections(rule)
    assert list(parts) == ["", *BUILD.SECTIONS]
    assert all(parts.values()), "every section says something"


@pytest.mark.parametrize("rule", RULES)
def test_module_explains_itself(rule: type[Rule]) -> None:
    assert len(BUILD.mathematics(rule).split()) > 10


@pytest.mark.parametrize("rule", RULES)
def test_page_is_the_one_that_the_rule_makes(rule: type[Rule]) -> None:
    path = FOLDER / "rules" / BUILD.file_name(rule)
    assert path.is_file(), "run `python docs/generate.py`"
    assert path.read_text("utf-8") == BUILD.page(rule), "run `python docs/generate.py`"


@pytest.mark.parametrize("kind", OWN_FINDINGS, ids=lambda kind: kind.code)
def test_findings_of_the_linter_itself_have_a_page(kind: OwnFinding) -> None:
    path = FOLDER / "rules" / BUILD.file_name(kind)
    assert path.read_text("utf-8") == BUILD.own_page(kind), "run `python docs/generate.py`"
    assert kind.summary in path.read_text("utf-8") and kind.text in path.read_text("utf-8")


def test_index_and_set_of_pages() -> None:
    wanted = BUILD.pages()
    assert {path.name for path in (FOLDER / "rules").glob("*.md")} == set(wanted), "run `python docs/generate.py`"
    assert (FOLDER / "rules" / "README.md").read_text("utf-8") == wanted["README.md"], "run `python docs/generate.py`"


def test_the_page_of_rewrites_is_the_one_that_they_make() -> None:
    text = BUILD.REWRITES_PAGE.read_text("utf-8")
    assert text == BUILD.rewrites(), "run `python docs/generate.py`"
    parts = dict(re.findall(r"^## (\S+)\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(parts) == [rewrite.name for rewrite in REWRITES]
    assert all(len(told.split()) > 20 for told in parts.values()), "every rewrite explains itself"


def test_sections_are_read_as_headings_and_as_paragraphs() -> None:
    class Both:
        """Summary.

        ## What it does
        Counts.

        **What to do.** Nothing.
        """

    assert BUILD.sections(Both) == {"": "Summary.", "What it does": "Counts.", "What to do": "Nothing."}
