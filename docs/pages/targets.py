"""The page of all targets: their facts, with sources and versions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnxlint_q.analysis.targets import TARGETS, read_target
from onnxlint_q.analysis.targets.profile import Fact, Target

from .markdown import cell, generated, one_line, sentence, table

_ADDRESS = re.compile(r"(?<![<(\w])(https?://[^\s,;)]*[^\s,;).])")


def targets() -> str:
    """One section a target, one row a fact."""
    known = [read_target(name) for name in TARGETS]
    lines = [
        generated("the profiles of targets"),
        "",
        "# Targets",
        "",
        "What `--target` knows of the runtimes that a file goes to, who says so, and for which versions. What does",
        "not stand here is not known to be safe. [Using it](../usage.md#targets) says how findings come of it; a new",
        "fact is [a few lines](../../CONTRIBUTING.md#add-a-target-or-a-fact-about-one).",
        "",
        *table(
            ("target", "runtime", "facts"),
            ((f"[`{one.name}`](#{one.name})", one.title, str(len(one.facts))) for one in known),
            numbers=1,
        ),
    ]
    for one in known:
        lines += ["", f"## {one.name}", "", *_target(one, known)]
    return "\n".join(lines) + "\n"


def _target(target: Target, known: list[Target]) -> Iterator[str]:
    yield f"{target.title}."
    for scheme, why in target.schemes.items():
        yield from ("", f"Not `{scheme}`: {sentence(why)}")
    if target.instead:
        yield from ("", f"Files of `{target.instead}` run there.")
    own = target.facts
    for other in known[: known.index(target)]:
        shared = sum(fact in other.facts for fact in own)
        if shared:
            yield from ("", f"{shared} of the facts are those of [`{other.name}`](#{other.name}).")
            own = tuple(fact for fact in own if fact not in other.facts)
    if own:
        head = ("fact", "what the target does", "what to do", "source (versions)")
        yield from ("", *table(head, map(_row, own)))


def _row(fact: Fact) -> tuple[str, ...]:
    operators = ", ".join(fact.when.get("operators", ())) or "any operator"
    source = _ADDRESS.sub(r"<\1>", cell(one_line(fact.source)))
    return (
        f"`{fact.name}`: {cell(operators)}",
        cell(f"{sentence(fact.takes)} {sentence(fact.comes)}"),
        cell(sentence(fact.remedy)),
        f"{source} ({cell(one_line(fact.versions))})",
    )
