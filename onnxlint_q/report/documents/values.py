"""What every JSON report is made of.

Every number is finite and has six significant digits; what is not finite is null. The text is ASCII.
"""

from __future__ import annotations

import json
import math

from onnxlint_q import __version__

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def tool() -> dict[str, Json]:
    """Who wrote the report."""
    return {"name": "onnxlint-q", "version": __version__}


def indented(document: Json) -> str:
    """Indented by one space, so that it reads and diffs line by line."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def compact(document: Json) -> str:
    """Without white space, to embed."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def number(value: float | None) -> float | None:
    """Six significant digits; null where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}") + 0.0


def text(text: str) -> str:
    """A lone surrogate, legal in Python and refused by strict JSON readers, becomes its escape as text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
