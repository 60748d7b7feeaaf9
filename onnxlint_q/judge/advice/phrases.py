"""Channels and ratios in words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onnxlint_q.analysis.statistics import LayerFacts


def channels(indices: Iterable[int], limit: int = 4) -> str:
    """`channel 3`, or `channels 3, 7, 9, 12 and 5 others`."""
    listed = [int(index) for index in indices]
    head = ", ".join(map(str, listed[:limit]))
    rest = len(listed) - limit
    more = f" and {rest} other{'s' * (rest > 1)}" if rest > 0 else ""
    return f"channel{'s' if len(listed) > 1 else ''} {head}{more}"


def times(ratio: float) -> str:
    """A ratio for people: `3.2`, `140`, `6.1e+05`, `more than a million`."""
    if not np.isfinite(ratio) or ratio > 1e6:
        return "more than a million"
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def of_operand(layer: LayerFacts) -> str:
    """` of W`: which weight of a layer that has several; empty for any other."""
    return f" of {layer.operand}" if layer.operand else ""


def multiple(value: float) -> str:
    """A ratio with its sign: `3.2×`, `140×`, `over a million times`."""
    return f"{times(value)}×" if np.isfinite(value) and value <= 1e6 else "over a million times"
