"""What the file tells of an output beside the raw figure: what the level to expect of a measurement hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log10
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.outputs.output_kind import Holds, Output, holds_scores, multiplies_computed
from onnxlint_q.finding import Subject
from onnxlint_q.forecast.ends import End, varying_share
from onnxlint_q.forecast.expected.level import Scores, Traits
from onnxlint_q.forecast.forward import Propagation
from onnxlint_q.forecast.population import Samples
from onnxlint_q.graph import Trait

Place = tuple[str, str]
"""The name of an output and that of one of its parts; an output as a whole has an empty one."""
TOGETHER: Place = ("", "")
"""All outputs pooled."""
# Amplitude of the noise, beside that of the contrast, at which close calls are counted.
_NOISE = 0.1
_FEWEST_CLASSES = 2
_ROWS = 384


def traits(measured: Measured, propagation: Propagation) -> Mapping[Place, Traits]:
    """By place what the file tells of the outputs, of their parts and of all together, whatever the scheme."""
    common = _common(measured, propagation)
    found: dict[Place, Traits] = {}
    for output in measured.outputs:
        samples, shape = propagation.samples.get(output.name), measured.model.shape(output.name)
        found[output.name, ""] = _own(common, output, shape, samples)
        apart = output.parts_of(samples.shape[1:]) if samples is not None else ()
        for part in output.parts:
            here = part.within(samples, lead=1) if samples is not None and apart else None
            found[output.name, part.held.name] = _own(common, part.held, None, here)
    whole = [own for (_, part), own in found.items() if not part]
    varying = fmean(own.varying for own in whole) if whole else 1.0
    return {TOGETHER: whole[0] if len(whole) == 1 else replace(common, varying=varying), **found}


def with_shares(
    known: Mapping[Place, Traits], ends: Sequence[End], noise: Mapping[tuple[Subject, str], npt.NDArray[np.float64]]
) -> Mapping[Place, Traits]:
    """The traits with who makes the noise at each place; as they are where there is none.

    Args:
        known: by place.
        ends: where noise is counted.
        noise: over signal at the ends, of each tensor, quantised alone.
    """
    if not noise:
        return known
    made = np.stack(list(noise.values()))
    weights = np.array([kind is Subject.WEIGHT for kind, _ in noise])
    counts = np.array([end.weight for end in ends])
    by_output: dict[str, list[int]] = {}
    for number, end in enumerate(ends):
        by_output.setdefault(end.output, []).append(number)

    def shared(place: Place, own: Traits) -> Traits:
        output, part = place
        here = list(range(len(ends))) if place == TOGETHER else by_output.get(output, [])
        # All of the output's ends where parts have none of their own.
        apart = [number for number in here if part and _holds(ends[number], part)]
        counted = [number for number in apart or here if counts[number] > 0]
        power = made[:, counted] @ counts[counted]
        total = float(power.sum())
        if not 0 < total < np.inf:
            return own
        return replace(own, weights=float(power[weights].sum()) / total, largest=float(power.max()) / total)

    return {place: shared(place, own) for place, own in known.items()}


def _holds(end: End, part: str) -> bool:
    return end.part is not None and end.part.held.name == part


def _common(measured: Measured, propagation: Propagation) -> Traits:
    model = measured.model
    return Traits(
        layers=len(measured.layers),
        attention=any(multiplies_computed(model, node) or "Attention" in node.op_type for node in model.nodes),
        recurrent=any(node.operator.has(Trait.RECURRENT) for node in model.nodes),
        images=any(is_image(value.type.shape) for value in model.inputs),
        unknown=bool(propagation.unknown),
    )


def _own(common: Traits, output: Output, shape: Sequence[int | None] | None, samples: Samples | None) -> Traits:
    if shape is None and samples is not None:
        shape = samples.shape[1:]
    scores = _scores(output, samples) if samples is not None else None
    holds_some = output.holds is Holds.CLASS_SCORES and (output.axis is not None or holds_scores(shape or ()))
    return replace(
        common,
        fraction=output.fraction,
        varying=1.0 if samples is None else varying_share(samples),
        scores=(scores or _ordinary(output, shape)) if holds_some else None,
    )


def _ordinary(output: Output, shape: Sequence[int | None] | None) -> Scores:
    """Class scores of which no sample tells anything."""
    axis = 1 if output.axis is None else output.axis
    known = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    return Scores(max(known or _FEWEST_CLASSES, _FEWEST_CLASSES), softmax=output.fraction)


def _scores(output: Output, samples: Samples) -> Scores | None:
    """What samples tell of class scores; None if they do not tell the classes apart."""
    rows = _rows(output, samples)
    if rows is None or rows.shape[1] < _FEWEST_CLASSES:
        return None
    apart = rows - rows.mean(axis=1, keepdims=True)
    power, contrast = float((rows**2).mean()), float((apart**2).mean())
    if not 0 < contrast <= power * (1 + 1e-9) or not np.isfinite(power):
        return Scores(rows.shape[1], softmax=output.fraction)
    contrast_db = 10 * log10(min(contrast / power, 1.0))
    return Scores(rows.shape[1], contrast_db, _close(apart / np.sqrt(contrast)), output.fraction)


def _close(scores: npt.NDArray[np.float64]) -> float:
    """Share of rows whose largest class another takes over when noise is added, by the margin of the best two."""
    draw = np.random.default_rng(0)
    noisy = scores + _NOISE * draw.standard_normal(scores.shape)
    return float(np.mean(scores.argmax(axis=1) != noisy.argmax(axis=1)))


def _rows(output: Output, samples: Samples) -> npt.NDArray[np.float64] | None:
    """The samples as `[rows, classes]`; the axes of the tensor lie behind the one of the samples."""
    values: npt.NDArray[Any] = samples.astype(np.float64)
    if output.axis is not None and -values.ndim < output.axis < values.ndim - 1:
        axis = output.axis if output.axis < 0 else output.axis + 1
        rows = np.moveaxis(values, axis, -1)
    elif values.ndim > 2:
        rows = np.moveaxis(values, 2, -1)
    else:
        return None
    return rows.reshape(-1, rows.shape[-1])[:: max(rows.size // rows.shape[-1] // _ROWS, 1)]
