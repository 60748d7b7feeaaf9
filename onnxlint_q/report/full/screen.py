"""The first screen: as much of a report as fits, and what its words mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from onnxlint_q.finding import Severity
from onnxlint_q.glossary import used_in
from onnxlint_q.report.formats import Look
from onnxlint_q.report.full.drawing import drawn, height

LINES = 40
"""Of the first screen of one model."""
VERBOSE = "--verbose shows every place, table and note."
MEANINGS = (
    (
        r"\bdB\b",
        "dB: SQNR, signal over int8 error at the output; more is better, 20 dB is an error of 10 %, 0 dB of 100 %.",
    ),
    (r"\bcodes?\b", "Code: one of the values of int8, 256 for activations, 255 for weights."),
    (r"(?s)\A(?=.*BatchNorm).*\b[Ff]old(s|ed|ing)?\b", "Fold: merge a BatchNorm into the weights of a layer."),
    (r"\btop class\b", "Top class: the one with the highest score."),
    (r"quantize_static\(\.\.\.", "Dots in a call: your model, the file to write, and a CalibrationDataReader."),
)
"""Words that a newcomer cannot know, each defined where it is used."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How much a first screen tells.

    Attributes:
        places: of each group of findings that are listed.
        sentences: groups of at least this severity have their sentence; None for none.
        call: the first call is printed if it has at most so many lines, others if they have half as many.
        advice: characters of an advice, in whole sentences, at least one.
        notes, groups, reasons: that are shown.
        sayings: sentences of a reason.
        steps: things to do.
        doubts: whether it says why a good verdict is not enough to ship on.
    """

    places: int = 3
    sentences: Severity | None = Severity.INFO
    call: int = 12
    advice: int = 240
    notes: int = 3
    groups: int = 20
    reasons: int = 3
    sayings: int = 4
    doubts: bool = True
    steps: int = 3


def _ladder() -> Iterator[Detail]:
    """From most to least: what is given up first is what a reader misses least."""
    given_up: tuple[dict[str, Any], ...] = (
        {},
        {"places": 2},
        {"places": 1},
        {"places": 0},
        {"sentences": Severity.WARNING},
        {"notes": 1},
        {"sentences": None},
        {"advice": 160},
        {"sayings": 3},
        {"call": 8},
        {"advice": 1},
        {"sayings": 2},
        {"reasons": 2},
        {"call": 6},
        {"notes": 0},
        {"sayings": 1},
        {"groups": 8},
        {"call": 1},
        {"reasons": 1},
        {"groups": 4},
        {"steps": 2},
        {"call": 0},
        {"doubts": False},
    )
    detail = Detail()
    for change in given_up:
        detail = replace(detail, **change)
        yield detail


def fitted(build: Callable[[Detail], Iterable[RenderableType]], summary: str, look: Look) -> Sequence[RenderableType]:
    """What is built with the most detail that fits with its `end`; with the least where nothing does."""
    built: Sequence[RenderableType] = ()
    for detail in _ladder():
        built = tuple(build(detail))
        said = drawn(built, look.width, colour=False)
        if said.count("\n") + height(_end(built, said, summary, look), look.width) <= LINES:
            break
    return built


def meanings(said: str) -> str:
    """What the words of a printed text mean that a newcomer cannot know; empty where there are none."""
    return " ".join(meaning for word, meaning in MEANINGS if re.search(word, said))


def explained(said: str, meant: str) -> str:
    """How to ask what other words of a printed text mean; empty where there are none.

    Args:
        said: the text.
        meant: what its `meanings` are.
    """
    defined = {word for word, _ in used_in(meant)}
    others = [word for word, _ in used_in(said) if word not in defined]
    return f"onnxlint-q rule WORD explains {', '.join(others)}." if others else ""


def end(body: Sequence[RenderableType], summary: str, look: Look) -> Iterator[RenderableType]:
    """What the words of `body` mean, that there is more, and the totals."""
    yield from _end(body, drawn(body, look.width, colour=False), summary, look)


def _end(body: Sequence[RenderableType], said: str, summary: str, look: Look) -> Iterator[RenderableType]:
    yield Text()
    meant = meanings(said)
    more = filter(None, ("" if look.verbose else VERBOSE, explained(said, meant)))
    for line in filter(None, (meant, " ".join(more) if body else "")):
        yield Text(line, "dim")
    yield Text(summary[:1].upper() + summary[1:], "bold")
