"""How names and sentences of an untrusted model are written in Markdown, as GitHub and GitLab read it."""

from __future__ import annotations

import re

# What begins emphasis, code, links, tables, tags, entities and formulas wherever it stands, and what begins headings
# and lists at the start of a line.
_MARKS = re.compile(r"([\\`*_{}\[\]<>|~$&])")
_FIRST = re.compile(r"^(\s*)([#+=-])|^(\s*\d+)([.)])")
# A code host makes links of mentions, issues, labels and addresses after Markdown is read, so no backslash helps. A
# comment in between does, and is not seen.
_LINKS = re.compile(r"[@#!%:~$&](?=\w)|/(?=/)|(?<=www)\.", re.IGNORECASE)
_APART = "<!-- -->"
_TICKS = re.compile(r"`+")


def markdown(text: str) -> str:
    """A text that was made safe to show, so that it reads as it is: no markup, no link, nobody mentioned."""
    escaped = _FIRST.sub(r"\1\3\\\2\4", _MARKS.sub(r"\\\1", text))
    return _LINKS.sub(lambda found: f"{found[0]}{_APART}", escaped)


def markdown_block(text: str, indent: str = "") -> str:
    """Lines that were made safe to show, as a block of code."""
    fence = _fence(text, 3)
    return "\n".join(f"{indent}{line}" for line in (fence, *text.splitlines(), fence))


def markdown_code(text: str) -> str:
    """A name that was made safe to show, as code; a bar is written so that no table ends at it."""
    if not text:
        return ""
    fence = _fence(text, 1)
    room = " " if text.startswith("`") or text.endswith("`") or text.strip() == "" else ""
    return f"{fence}{room}{text}{room}{fence}".replace("|", "\\|")


def _fence(text: str, least: int) -> str:
    """More backticks than stand together anywhere in a text."""
    return "`" * max(least, 1 + max((len(run) for run in _TICKS.findall(text)), default=0))
