"""What a shell offers for an option while it is typed.

Most tables of words lie in modules that take a second to import, so `docs/generate.py` copies their words into
`vocabulary.json`; a test holds the copy against the tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import cast

from onnxlint_q.glossary import GLOSSARY

Completer = Callable[[str], list[tuple[str, str]]]
"""What was typed so far to what it may become, each with a few words on it."""


@cache
def vocabulary() -> Mapping[str, Mapping[str, str]]:
    """Words by kind, each with what it means; empty where the word says it."""
    text = (files(__package__) / "vocabulary.json").read_text("utf-8")
    return cast("Mapping[str, Mapping[str, str]]", json.loads(text))


def one(kind: str) -> Completer:
    """One word of a kind."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return _beginning(incomplete, vocabulary()[kind].items())

    return complete


def several(kind: str) -> Completer:
    """Words of a kind with commas between, none twice."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, last = incomplete.rpartition(",")
        given = set(before.split(","))
        words = ((word, said) for word, said in vocabulary()[kind].items() if word not in given)
        return [(f"{before}{comma}{word}", said) for word, said in _beginning(last, words)]

    return complete


def rules(incomplete: str) -> list[tuple[str, str]]:
    """Codes and names of rules, with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{word}", said) for word, said in _beginning(last, (*_rules("rules"), *_of_plugins()))]


def explained(incomplete: str) -> list[tuple[str, str]]:
    """What the command `rule` explains: rules, the linter's own findings, and words."""
    words = ((word.replace(" ", "-"), meaning) for word, meaning in GLOSSARY.items())
    return _beginning(incomplete, (*_rules("rules"), *_of_plugins(), *_rules("own_findings"), *words))


def _rules(kind: str) -> Iterator[tuple[str, str]]:
    return _both_ways(vocabulary()[kind])


def _of_plugins() -> Iterator[tuple[str, str]]:
    from onnxlint_q.judge.plugins import written_rules

    return _both_ways(written_rules())


def _both_ways(rules: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for code, name in rules.items():
        yield code, name
        yield name, code


def _beginning(typed: str, words: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The words that begin as was typed, in any case, spelt on as was typed."""
    start = typed.casefold()
    return [(f"{typed}{word[len(typed) :]}", said) for word, said in words if word.casefold().startswith(start)]
