"""Plug-ins: found, checked, and refused with a name when they are broken."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from onnxlint_q.errors import PluginError
from onnxlint_q.judge.plugins import GROUP
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.select import Selection

GOOD = '''
"""A rule of somebody else's."""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar
from onnxlint_q.judge.facts import Facts
from onnxlint_q.finding import Finding, Severity
from onnxlint_q.judge.rule import Example, Rule

@dataclass(frozen=True)
class MyRule(Rule):
    """Says nothing."""
    code: ClassVar[str] = "{code}"
    name: ClassVar[str] = "{name}"
    severity: ClassVar[Severity] = Severity.INFO
    good: ClassVar[tuple[Example, ...]] = ()
    bad: ClassVar[tuple[Example, ...]] = ()

    def check(self, facts: Facts) -> Iterator[Finding]:
        yield from ()
'''


def point(tmp_path: Path, module: str, text: str, monkeypatch: pytest.MonkeyPatch) -> EntryPoint:
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    return EntryPoint("mine", module, GROUP)


BUILTIN = EntryPoint("builtin", "onnxlint_q_rules", GROUP)


def test_built_in_rules_are_all_there_in_order_and_once() -> None:
    codes = [entry.rule.code for entry in load_rules()]
    wanted = "QW001 QW002 QW003 QW004 QW005 QB001 QB002 QB003 QG001 QG002 QP001 QP002 QA001 QA002 QD001".split()
    assert codes == sorted(set(codes)) and set(wanted) <= set(codes)
    assert all(entry.source == "onnxlint-q" for entry in load_rules())


def test_a_rule_of_another_package_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = point(tmp_path, "my_rules", GOOD.format(code="ZZ001", name="my-rule"), monkeypatch)
    assert "ZZ001" in {entry.rule.code for entry in load_rules([mine, BUILTIN])}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.format(code="QW001", name="my-rule"),
            "QW001 of taken is already used by LowDepthwiseAveragePrecision of onnxlint_q_rules",
        ),
        (GOOD.format(code="bad code", name="my-rule"), "code 'bad code' or name 'my-rule' is not valid"),
        (
            "import nothing_of_that_name",
            "rule package 'taken' cannot be loaded: No module named 'nothing_of_that_name'",
        ),
        (
            GOOD.format(code="ZZ001", name="x").replace('    name: ClassVar[str] = "x"\n', ""),
            "MyRule of taken has no name",
        ),
    ],
)
def test_broken_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        load_rules([point(tmp_path, "taken", text, monkeypatch), BUILTIN])
    assert message in str(caught.value)


def test_no_rules_is_an_error() -> None:
    with pytest.raises(PluginError, match="no rules are installed"):
        load_rules([])


@pytest.mark.parametrize(
    ("selection", "runs", "does_not"),
    [
        (Selection(), "QW001 QG002", ""),
        (Selection(select=("QW",)), "QW001 QW004", "QB001"),
        (Selection(select=("QW",), extend_select=("outlier-gamma",)), "QW001 QB001", "QB002"),
        (Selection(ignore=("QW",)), "QB001", "QW001 QW005"),
        (Selection(select=("QW001",), ignore=("QW",)), "QW001", "QW002"),
        (Selection(select=("QW",), ignore=("low-channel-precision",)), "QW001", "QW002"),
        (Selection(select=("QW",), ignore=("QW",)), "", "QW001"),
        (Selection(select=("qw", "Outlier-Gamma"), ignore=("qW001",)), "QW002 QB001", "QW001 QB002"),
        (Selection(select=("all",), ignore=("Qb",)), "QW001", "QB001"),
    ],
)
def test_the_longest_selector_decides(selection: Selection, runs: str, does_not: str) -> None:
    chosen = {rule.code for rule in selection.choose([entry.rule for entry in load_rules()])}
    assert set(runs.split()) <= chosen and not chosen & set(does_not.split())


def test_every_selector_that_matches_nothing_is_told_with_its_option() -> None:
    chosen = Selection(select=("QW", "QZ9"), ignore=("Outlier-Gama",))
    assert list(chosen.errors([entry.rule for entry in load_rules()], "--")) == [
        "--select 'QZ9': no rule matches; see `onnxlint-q rule --all`",
        "--ignore 'Outlier-Gama': no rule matches (did you mean 'outlier-gamma'?); see `onnxlint-q rule --all`",
    ]
