"""Calls of ONNX Runtime's `quantize_static` as they are typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

# Columns of a list that stays in the line of the call, and of a line of one that does not.
_INLINE, _WIDTH = 28, 88


def quantize_static_call(*options: str) -> str:
    """The call with these options; empty if one of them is, because there is then no way to say it."""
    return f"quantize_static(..., {', '.join(options)})" if all(options) else ""


def exclude_option(names: Sequence[str]) -> str:
    """The option that keeps the nodes with these names in float; empty if one of the names is."""
    return f"nodes_to_exclude=[{_list(names)}]" if names and all(names) else ""


def _list(names: Iterable[str]) -> str:
    """The names as Python writes them, on one line if they fit, else on as many as they need."""
    quoted = [ascii(name) for name in names]
    line = ", ".join(quoted)
    return line if len(line) <= _INLINE else "".join(f"\n    {row}" for row in _rows(quoted)) + "\n"


def _rows(words: Iterable[str]) -> Iterator[str]:
    row = ""
    for word in words:
        if row and len(row) + len(word) > _WIDTH:
            yield row.rstrip()
            row = ""
        row += f"{word}, "
    yield row.rstrip()
