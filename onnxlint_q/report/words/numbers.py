"""How numbers read."""

from __future__ import annotations

import math
import re

from onnxlint_q.report.words.names import name
from onnxlint_q.workflow.results import OVERFLOWN_DB

PERFECT = "perfect match"


def number(value: float, digits: int = 1) -> str:
    """`value` with a fixed number of decimals; never `-0.0`."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def decibel(value: float | None) -> str:
    """`4.7 dB`; a dash where there is nothing, words where it is not finite."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return PERFECT if value > 0 else "no signal left"
    if value <= OVERFLOWN_DB:
        return "no finite value"
    return f"{number(value)} dB"


def unchanged(float_sqnr_db: float | None) -> str:
    """What is left of float outputs that are the same: `identical`, or `the same (112 dB)`."""
    return "identical" if float_sqnr_db is None else f"the same ({float_sqnr_db:.0f} dB)"


def figure(value: float | None) -> str:
    """A level in dB for a column whose heading says so."""
    if value is None or math.isnan(value):
        return "-"
    return number(value) if math.isfinite(value) else "exact" if value > 0 else "lost"


def significant(value: float | None, digits: int = 3) -> str:
    """`value` with so many significant digits; a dash where there is nothing."""
    return "-" if value is None else f"{value + 0.0:.{digits}g}"


def percent(fraction: float) -> str:
    """`0.948` as `94.8 %`, `0.05` as `5 %`."""
    return f"{number(100 * fraction).removesuffix('.0')} %"


def count(amount: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `2 layers`."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def metric(value: object) -> str:
    """A metric as shown: six significant digits, names bounded."""
    if isinstance(value, float):
        return significant(value, 6)
    return "-" if value is None else name(str(value))


def metric_label(key: str) -> str:
    """The key of a metric as words: `sqnr_after_folding_db` as `SQNR after folding, dB`."""
    said, unit = key, ""
    for ending, told in (("_db", ", dB"), ("_fraction", ", fraction"), ("_codes", ", codes")):
        if key.endswith(ending):
            said, unit = key.removesuffix(ending), told
    text = f"{said.replace('_', ' ')}{unit}"
    return re.sub(r"\bsqnr\b", "SQNR", name(text, 80))


def size(amount: int) -> str:
    """Bytes as `1.9 MB`, `572.7 KB`."""
    return f"{amount / 1e6:.1f} MB" if amount >= 1e6 else f"{amount / 1e3:.1f} KB"
