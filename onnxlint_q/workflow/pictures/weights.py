"""A weight beside its scale: the channels that set it, and what is left of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.causes.gains import compare_gains
from onnxlint_q.analysis.folding import BatchNorm
from onnxlint_q.analysis.number_formats import INT8
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Finding
from onnxlint_q.graph import Model
from onnxlint_q.workflow.pictures.values import Channel, Gain, Merged, OnGrid

CHANNELS = 128
"""Channels that are drawn, the widest and the others evenly."""
PARTS = 64
"""Of a histogram."""
WIDE = 8.0
"""Width over the median from which on a channel is marked: it takes three of eight bits from the others."""

Row = npt.NDArray[np.float32]


def channels_of(layer: LayerFacts, finding: Finding) -> tuple[tuple[Channel, ...], int, float | None]:
    """The channels, how many more there are, and half a step of the scale that they share."""
    widths = layer.weight.absmax
    if layer.weight.non_finite or not widths.size or not widths.max() > 0:
        return (), 0, None
    marked = _marked(widths, finding)
    order = np.argsort(-widths, kind="stable")
    drawn = order if order.size <= CHANNELS else order[np.linspace(0, order.size - 1, CHANNELS).astype(int)]
    found = tuple(Channel(int(one), float(widths[one]), int(one) in marked) for one in drawn)
    half = float(widths.max()) / (2 * INT8.largest) if _shared(finding) else None
    return found, int(order.size - len(found)), half


def _shared(finding: Finding) -> bool:
    """Whether the finding is about one scale for all channels."""
    return finding.claim is None or finding.claim.scheme == INT8_PER_TENSOR.name


def _marked(widths: npt.NDArray[np.float64], finding: Finding) -> frozenset[int]:
    told = set(finding.cure.channels) if finding.cure is not None else set[int]()
    told.update(np.flatnonzero(widths >= WIDE * np.median(widths[widths > 0])).tolist())
    return frozenset(told or {int(np.argmax(widths))})


def grid_of(model: Model, layer: LayerFacts, finding: Finding) -> tuple[OnGrid | None, Merged | None]:
    """The weights of one channel and two of them that become one code; the channel is a typical one of a shared scale.

    Where each channel has its own scale it is the one that the finding calls the worst.
    """
    widths = layer.weight.absmax
    if layer.weight.non_finite or not widths.size or not widths.max() > 0:
        return None, None
    alive = np.flatnonzero(widths > 0)
    if _shared(finding):
        index = int(alive[np.argsort(widths[alive], kind="stable")[alive.size // 2]])
        step, what = float(widths.max()) / INT8.largest, "a typical channel"
    else:
        told = finding.metrics.get("worst_channel")
        index = told if isinstance(told, int) and 0 <= told < widths.size else int(np.argmax(widths))
        step, what = float(widths[index]) / INT8.largest, "the worst channel"
    row = np.asarray(layer.folded.matrix(model)[index], np.float64)
    if not step > 0 or not np.isfinite(row).all():
        return None, None
    reach = max(float(np.abs(row).max()), 1.5 * step)
    counts, _ = np.histogram(row, PARTS, (-reach, reach))
    codes = np.round(row / step)
    held = OnGrid(
        f"weights of {what}, number {index}",
        -reach,
        reach,
        tuple(map(int, counts)),
        step,
        0.0,
        int(np.unique(codes).size),
    )
    return held, _merged(row, codes, step)


def _merged(row: npt.NDArray[np.float64], codes: npt.NDArray[np.float64], step: float) -> Merged | None:
    """Of all pairs with one code the one whose weights lie furthest apart."""
    order = np.argsort(row, kind="stable")
    values, held = row[order], codes[order]
    starts = np.flatnonzero(np.concatenate([[True], held[1:] != held[:-1]]))
    ends = np.concatenate([starts[1:], [values.size]]) - 1
    spread = values[ends] - values[starts]
    if not spread.size or not spread.max() > 0:
        return None
    best = int(np.argmax(spread))
    code = int(held[starts[best]])
    return Merged(float(values[starts[best]]), float(values[ends[best]]), code, code * step, step)


def gains_of(norm: BatchNorm) -> tuple[Gain, ...]:
    """Every channel of a BatchNormalization whose parameters are finite, those with an unusual gain or none marked."""
    told = compare_gains(norm)
    count = norm.gamma.size
    chosen: Sequence[int] = range(count)
    if count > 2 * CHANNELS:  # all that are marked, and others evenly
        even = set(np.linspace(0, count - 1, CHANNELS).astype(int).tolist())
        chosen = sorted(even | set(np.argsort(-np.nan_to_num(told.ratio))[:CHANNELS].tolist()))
    found = (
        Gain(
            index,
            float(norm.gamma[index]),
            float(norm.variance[index]),
            abs(float(norm.gain[index])),
            bool(told.ratio[index] >= WIDE),
        )
        for index in chosen
    )
    return tuple(one for one in found if np.isfinite([one.gamma, one.variance, one.gain]).all())
