"""The data files of targets: facts about what a runtime does with a kind of quantised operator.

A fact says where it applies (`when`, see `match`), what comes of it, since and until which version, and who says so. A
fact about ONNX Runtime on a CPU has an example; a test runs it with the installed version.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

_FOLDER = files(__package__) / "profiles"
TARGETS: tuple[str, ...] = (
    "ort-cpu",
    "ort-cpu-vnni",
    "ort-arm",
    "ort-web",
    "cuda",
    "tensorrt",
    "qnn",
    "openvino",
    "directml",
    "tflite",
)
"""Names of the targets that there are facts about."""


class Consequence(StrEnum):
    """What comes of it: no file, no run, other values, another processor, sums that clip, no gain."""

    REFUSED = "refused"
    FAILS = "fails"
    WRONG = "wrong"
    FALLBACK = "fallback"
    SATURATES = "saturates"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a target does.

    Attributes:
        name: kebab-case, unique within its target.
        consequence: what comes of it.
        when: where it applies, by condition.
        takes: what the target takes, in words that follow its title: `takes one zero point for the weight`.
        comes: what comes of it, in words that follow the name of a node: `does not load`.
        remedy: what to do, sentences.
        source: documentation, header or issue, and what was run.
        versions: for which it was found to hold, in words.
        since, until: first and last version of ONNX Runtime that it holds for; None for no limit.
        example: a model, as ONNX text, that it applies to; empty where nothing here can run it.
    """

    name: str
    consequence: Consequence
    when: Mapping[str, Any]
    takes: str
    comes: str
    remedy: str
    source: str
    versions: str
    since: str | None = None
    until: str | None = None
    example: str = ""

    @property
    def holds(self) -> bool:
        """Whether it holds for the installed ONNX Runtime, as far as it depends on that."""
        return _within(_installed(), self.since, self.until)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file is to run.

    Attributes:
        name: as it is typed.
        title: in words.
        facts: about it, those of the targets that it extends included.
        schemes: why a file of a scheme cannot run there, by name of the scheme.
        instead: a scheme whose files it takes.
    """

    name: str
    title: str
    facts: tuple[Fact, ...]
    schemes: Mapping[str, str] = field(default_factory=dict)
    instead: str = ""


@cache
def read_target(name: str) -> Target:
    """The facts about one of `TARGETS`."""
    table = tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))
    inherited = [fact for other in table.get("extends", ()) for fact in read_target(other).facts]
    left_out = set(table.get("except", ()))
    own = [_fact(entry) for entry in table.get("fact", ())]
    facts = (*(fact for fact in inherited if fact.name not in left_out), *own)
    return Target(name, table["title"], facts, table.get("schemes", {}), table.get("instead", ""))


def _fact(entry: Mapping[str, Any]) -> Fact:
    return Fact(**{**entry, "consequence": Consequence(entry["consequence"])})


def _installed() -> str:
    try:
        return version("onnxruntime")
    except PackageNotFoundError:  # a build of another name, as onnxruntime-gpu: the newest facts are taken to hold
        return "999"


def _within(installed: str, since: str | None, until: str | None) -> bool:
    held = _numbers(installed)
    return (since is None or _numbers(since) <= held) and (until is None or held <= _numbers(until))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
