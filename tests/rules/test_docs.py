"""The pages of rules and rewrites are complete, and are those that these make."""

from __future__ import annotations

import re
from pathlib import Path

import generate
import pytest
from pages import rules

from onnxlint_q.judge.own_findings import OWN_FINDINGS, OwnFinding
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.rewrite.table import REWRITES

FOLDER = Path(__file__).parents[2] / "docs"
RULES = [pytest.param(entry.rule, id=f"{entry.rule.code}-{entry.rule.name}") for entry in load_rules()]


@pytest.mark.parametrize("rule", RULES)
def test_docstring_has_all_sections_in_order(rule: type[Rule]) -> None:
    parts = rules.sections(rule)
    assert list(parts) == ["", *rules.SECTIONS]
    assert all(parts.values()), "every section says something"


@pytest.mark.parametrize("rule", RULES)
def test_module_explains_itself(rule: type[Rule]) -> None:
    assert len(rules.mathematics(rule).split()) > 10


@pytest.mark.parametrize("rule", RULES)
def test_page_is_the_one_that_the_rule_makes(rule: type[Rule]) -> None:
    path = FOLDER / "rules" / rules.file_name(rule)
    assert path.is_file(), "run `python docs/generate.py`"
    assert path.read_text("utf-8") == rules.page(rule), "run `python docs/generate.py`"


@pytest.mark.parametrize("kind", OWN_FINDINGS, ids=lambda kind: kind.code)
def test_findings_of_the_linter_itself_have_a_page(kind: OwnFinding) -> None:
    path = FOLDER / "rules" / rules.file_name(kind)
    assert path.read_text("utf-8") == rules.own_page(kind), "run `python docs/generate.py`"
    assert kind.summary in path.read_text("utf-8") and kind.text in path.read_text("utf-8")


def test_set_of_pages_of_rules() -> None:
    wanted = rules.rule_pages()
    assert {path.name for path in (FOLDER / "rules").glob("*.md")} == set(wanted), "run `python docs/generate.py`"


@pytest.mark.parametrize(("name", "text"), [pair for pair in generate.made().items() if "/Q" not in pair[0]])
def test_file_is_the_one_that_the_code_makes(name: str, text: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == text, "run `python docs/generate.py`"


def test_every_rewrite_explains_itself() -> None:
    text = (FOLDER / "rewrites.md").read_text("utf-8")
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

    assert rules.sections(Both) == {"": "Summary.", "What it does": "Counts.", "What to do": "Nothing."}
