"""How names and sentences of an untrusted model are shown: visible and bounded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence
from pathlib import PureWindowsPath

LONGEST = 600
"""Characters of a message that are shown; the model is untrusted and its names may be megabytes long."""

# Parts of a path that are weighed against each other; a name of more is cut where it is.
_PARTS = 32
# A full stop within a name or a number has no space and capital behind it.
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


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
    """`text`, or what tells it apart with `…` for the rest, in `limit` characters.

    Of a path that is its last part, the parts with a number, as layers that repeat have one, and what stands before the
    end: `…/layer.10/…/dense/MatMul`. Of anything else it is the beginning and, three times as long, the end.
    """
    if len(text) <= limit:
        return text
    head = (limit - 1) // 4
    return _elided_path(text, limit) or f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def _elided_path(text: str, limit: int) -> str:
    """Empty where it is no path, or its last part alone is too long."""
    parts = text.split("/", _PARTS)
    if not 1 < len(parts) <= _PARTS:
        return ""
    told = ""
    kept: set[int] = set()
    numbered = [any(map(str.isdigit, part)) for part in parts]
    for place in sorted(range(len(parts)), key=lambda place: (place < len(parts) - 1, not numbered[place], -place)):
        tried = _with_gaps(parts, kept | {place})
        if len(tried) <= limit:
            kept.add(place)
            told = tried
        elif not numbered[place] or not kept:
            break
    return told


def _with_gaps(parts: Sequence[str], kept: Container[int]) -> str:
    shown = [part if place in kept else "…" for place, part in enumerate(parts)]
    return "/".join(part for place, part in enumerate(shown) if not place or (part, shown[place - 1]) != ("…", "…"))


def shorten(text: str, limit: int) -> str:
    """`text`, or its first words in `limit` characters with `…` behind them."""
    if len(text) <= limit:
        return text
    head = text[: limit - 2]
    # A word longer than a line is no word.
    whole = head.rpartition(" ")[0] if not text[limit - 2].isspace() and " " in head[-100:] else head
    return f"{whole.rstrip()} …"


def opening(text: str, limit: int) -> str:
    """The first sentences of `text` that fit into `limit` characters, at least one."""
    first, *others = _SENTENCES.split(text)
    for sentence in others:
        if len(first) + 1 + len(sentence) > limit:
            break
        first = f"{first} {sentence}"
    return first


def shown(text: str, limit: int = LONGEST) -> str:
    """A sentence made safe to show: visible and bounded."""
    return visible(shorten(text, limit))


def name(text: str, limit: int = 160) -> str:
    """A name made safe to show: visible, and bounded in the middle."""
    return visible(elide(text, limit))


def file_name(path: str) -> str:
    """The last part of a path of any system, as typed; the path itself where it has no name, as `..` or `/`."""
    return PureWindowsPath(path).name or path


def sentence(text: str) -> str:
    """Half a sentence as a whole one; empty stays empty."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
