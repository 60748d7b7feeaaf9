"""What rules say is short and plain: messages, remedies, causes and pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import FIXTURES, SHARED

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.finding import Finding, Silence
from onnxlint_q.graph import Model, read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.proof.testing import calibrated_facts, pair_facts

FAMILIES = ("QW", "QB", "QA")
"""First letters of the codes that these tests hold to it."""
LONGEST, LONGEST_SENTENCE, MOST_SENTENCES = 120, 25, 3
"""Characters of a message, words of a sentence, sentences of a remedy."""
CLUMSY = (
    "next to no",
    "next to nothing",
    "owns",
    "whatever",
    "whereof",
    "of which",
    "from which on",
    "is told",
    "are told",
    "makes up",
    "dwarf",
    "witness",
    "to make do",
    "what codes",
    "for nothing",
)
RULES = [entry.rule for entry in load_rules() if entry.rule.code.startswith(FAMILIES)]
EACH = [pytest.param(rule, id=f"{rule.code}-{rule.name}") for rule in RULES]
EXAMPLES = [
    pytest.param(rule, example, id=f"{rule.code}-bad{number}")
    for rule in RULES
    for number, example in enumerate(rule.bad)
]
FIXED = [pytest.param(path, id=path.stem) for path in sorted((FIXTURES / "models").glob("*.onnx"))]
PUBLIC = [pytest.param(path, id=path.stem) for path in sorted((SHARED / "models").glob("*.onnx"))]
NONE = pytest.param(SHARED / "models", marks=pytest.mark.skip(reason="needs the public networks of ../shared"))


@cache
def facts_of_file(path: Path) -> Facts:
    return facts_of(read_model(path), DEFAULT_SCHEMES)


def names_of(model: Model) -> list[str]:
    """All names that a message may quote, the longest first, so that none is taken out of a longer one."""
    names = {name for node in model.nodes for name in (node.name, *node.inputs, *node.outputs)}
    return sorted(filter(None, names), key=len, reverse=True)


def without(names: Iterable[str], text: str) -> str:
    """The text with what it quotes taken out."""
    for name in names:
        text = text.replace(repr(name), "''")
    return text


def sentences(text: str) -> Iterator[str]:
    return (said for said in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", text) if said)


def words(text: str) -> int:
    """How many there are; figures are none."""
    return sum(any(map(str.isalpha, word)) for word in text.split())


def said_by(finding: Finding) -> Iterator[str]:
    yield from (finding.message, finding.remedy, finding.otherwise, *finding.causes)


def check_words(finding: Finding, names: Iterable[str]) -> None:
    message = without(names, finding.message)
    assert len(message) <= LONGEST, message
    for remedy in (without(names, finding.remedy), without(names, finding.otherwise)):
        parts = list(sentences(remedy))
        assert len(parts) <= MOST_SENTENCES, remedy
        assert all(words(part) <= LONGEST_SENTENCE for part in parts), remedy
    for cause in finding.causes:
        assert len(list(sentences(cause))) == 1 and words(cause) <= LONGEST_SENTENCE, cause
    for text in said_by(finding):
        assert not clumsy(without(names, text)), text


def clumsy(text: str) -> list[str]:
    plain = " ".join(text.split()).casefold()
    return [word for word in CLUMSY if re.search(rf"\b{word}\b", plain)]


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_what_rules_say_of_their_examples(rule: type[Rule], example: Example) -> None:
    facts = pair_facts(example) if example.reference else calibrated_facts(example)
    told = list(rule().findings(facts))
    assert told
    for finding in told:
        check_words(finding, names_of(facts.model))


@pytest.mark.parametrize("path", [*FIXED, *(PUBLIC or [NONE])])
def test_what_rules_say_of_networks(path: Path) -> None:
    facts = facts_of_file(path)
    names = names_of(facts.model)
    for rule in RULES:
        for said in rule().check(facts):
            if isinstance(said, Silence):
                assert not clumsy(without(names, said.unmet)), said.unmet
            else:
                check_words(said, names)


@pytest.mark.parametrize("rule", EACH)
def test_pages_are_plain(rule: type[Rule]) -> None:
    texts = [inspect.getdoc(rule) or "", inspect.getdoc(inspect.getmodule(rule)) or ""]
    texts += [meaning for _, _, meaning, _ in rule.options()]
    texts += [example.why for example in (*rule.good, *rule.bad)]
    assert [word for text in texts for word in clumsy(text)] == []


@pytest.mark.parametrize("rule", EACH)
def test_examples_say_why_in_a_sentence(rule: type[Rule]) -> None:
    for example in (*rule.good, *rule.bad):
        assert example.why[:1].isupper() and example.why.endswith("."), example.why


def test_names_of_the_model_do_not_count() -> None:
    assert without(["a/long/name", "name"], "The result of 'a/long/name' and 'name'.") == "The result of '' and ''."
    assert clumsy("It owns the range,\nwhatever\ncomes.") == ["owns", "whatever"]
