"""How names and sentences of an untrusted model are shown: visible and bounded."""

from __future__ import annotations

import unicodedata
from pathlib import PureWindowsPath

LONGEST = 600
"""Characters of a message that are shown; the model is untrusted and its names may be megabytes long."""


def visible(text: str) -> str:
    """`text` on one line with every invisible character written as its escape.

    Control characters could drive a terminal, bidirectional marks could reorder a line, lone surrogates
    cannot be written as UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or unicodedata.category(char) == "Zs" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def elide(text: str, limit: int) -> str:
    """`text`, or its beginning and end around `…` in `limit` characters; the end tells nodes apart."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 4
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def shorten(text: str, limit: int) -> str:
    """`text`, or its beginning in `limit` characters with `…`."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def shown(text: str, limit: int = LONGEST) -> str:
    """A sentence made safe to show: visible and bounded."""
    return visible(shorten(text, limit))


def name(text: str, limit: int = 160) -> str:
    """A name made safe to show: visible, and bounded in the middle."""
    return visible(elide(text, limit))


def file_name(path: str) -> str:
    """The last part of a path of any system, as typed; the path itself where it has no name, as `..` or `/`."""
    return PureWindowsPath(path).name or path
