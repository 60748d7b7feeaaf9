"""The pages of rules and of the linter's own findings, and the list of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxlint_q.errors import UsageError
from onnxlint_q.glossary import GLOSSARY, used_in
from onnxlint_q.judge.config import Config, parse_config
from onnxlint_q.judge.explain import everything, explain, listing, settings
from onnxlint_q.judge.own_findings import NOT_RUN, OWN_FINDINGS, OwnFinding
from onnxlint_q.judge.registry import load_rules

RULES = load_rules()


def test_a_page_is_found_by_code_and_name_in_any_case() -> None:
    page = explain(RULES, "QB001")
    assert page.startswith("QB001 outlier-gamma\n") and "Options, in [rules.outlier-gamma]:" in page
    assert page == explain(RULES, "qb001") == explain(RULES, "Outlier-GAMMA")
    with pytest.raises(
        UsageError, match="there is no rule 'outlier-gama', and no such word \\(did you mean 'outlier-gamma'\\?\\)"
    ):
        explain(RULES, "outlier-gama")


def test_a_page_explains_the_words_that_it_uses() -> None:
    words = explain(RULES, "QB002").partition("## Words\n")[2].partition("\n\n")[0]
    assert f"fold: {GLOSSARY['fold']}" in words.splitlines() and f"SQNR: {GLOSSARY['SQNR']}" in words.splitlines()
    assert "depthwise" not in words
    for entry in RULES:
        uses = bool(list(used_in(entry.rule.__doc__ or "")))
        assert ("\n## Words\n" in explain(RULES, entry.rule.code)) is uses


def test_words_are_found_with_their_endings() -> None:
    assert [word for word, _ in used_in("Codes of folded weights, equalised.")] == ["code", "fold", "equalise"]
    assert list(used_in("Decoded, foldable, scalar.")) == []


@pytest.mark.parametrize("word", [*GLOSSARY, "sqnr", "Folding", "average-precision", "QDQ", "zero-points"])
def test_a_word_is_explained_as_a_rule_is(word: str) -> None:
    title, _, meaning = explain(RULES, word).partition("\n\n")
    assert title in GLOSSARY and meaning.casefold() == f"{GLOSSARY[title]}.".casefold()


def test_a_mistyped_word_is_recognised() -> None:
    with pytest.raises(UsageError, match="no such word \\(did you mean 'depthwise'\\?\\)"):
        explain(RULES, "depthwize")


def test_the_list_of_everything_ends_with_the_words() -> None:
    rules, _, words = everything(RULES).partition("\n\n")
    assert rules == listing(RULES)
    assert " ".join(words.splitlines()[1:]).split(", ") == list(GLOSSARY)


def test_the_first_letters_of_codes_list_a_family() -> None:
    codes = [entry.rule.code for entry in RULES if entry.rule.code.startswith("QB")]
    for word in ("QB", "qb", "qb0"):
        assert [line.split()[0] for line in explain(RULES, word).splitlines()] == codes
    for word in ("", "QB9", "outlier"):
        with pytest.raises(UsageError, match="there is no rule"):
            explain(RULES, word)


@pytest.mark.parametrize("kind", OWN_FINDINGS, ids=lambda kind: kind.code)
def test_what_the_linter_says_of_itself_has_a_page_too(kind: OwnFinding) -> None:
    for name in (kind.code, kind.code.lower(), kind.name):
        page = explain(RULES, name)
        assert page.startswith(f"{kind.code} {kind.name}\nseverity {kind.severity}, from onnxlint-q itself")
        assert kind.text in page


def test_the_list_holds_every_code_once() -> None:
    codes = [line.split()[0] for line in listing(RULES).splitlines()]
    assert codes == [entry.rule.code for entry in RULES] + ["QX001", "QX002", "QX003", "QX004", "QX005"]
    assert set(codes) > NOT_RUN == {"QX002", "QX003", "QX004"}


def test_settings_tell_what_is_a_default() -> None:
    rules = [entry.rule for entry in RULES]
    lines = settings(Config(), rules).splitlines()
    assert "fail-on-verdict = breaks  (default)" in lines
    assert "scheme = those of the kind of network  (default)" in lines
    config = parse_config({"fail-on-verdict": "none", "scheme": ["int8-per-tensor"]}, Path("x.toml"))
    lines = settings(config, rules).splitlines()
    assert "fail-on-verdict = none  (x.toml)" in lines and "scheme = int8-per-tensor  (x.toml)" in lines
    assert "fail-on = warning  (default)" in lines
