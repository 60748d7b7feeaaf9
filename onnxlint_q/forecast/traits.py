"""What the file tells of an output beside the raw figure: what the level to expect of a measurement hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log10
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.outputs.output_kind import Holds, Output, multiplies_computed
from onnxlint_q.forecast.level import Scores, Traits
from onnxlint_q.forecast.population import Samples
from onnxlint_q.forecast.sweep import Propagation, varying_share
from onnxlint_q.graph import Trait

TOGETHER = ""
"""In place of the name of an output: all of them pooled."""
# Amplitude of the noise, beside that of the contrast, at which close calls are counted.
_NOISE = 0.1
_FEWEST_CLASSES = 2
_ROWS = 384


def traits(measured: Measured, propagation: Propagation) -> Mapping[str, Traits]:
    """By the name of each output what the file tells of it; under `TOGETHER` what all have in common."""
    common = _common(measured, propagation)
    found = {
        output.name: _own(common, output, measured.model.shape(output.name), propagation.samples.get(output.name))
        for output in measured.outputs
    }
    alone = next(iter(found.values())) if len(found) == 1 else common
    return {TOGETHER: alone, **found}


def _common(measured: Measured, propagation: Propagation) -> Traits:
    model = measured.model
    return Traits(
        layers=len(measured.layers),
        attention=any(multiplies_computed(model, node) or "Attention" in node.op_type for node in model.nodes),
        recurrent=any(node.operator.has(Trait.RECURRENT) for node in model.nodes),
        images=any(is_image(value.type.shape) for value in model.inputs),
        unknown=bool(propagation.unknown),
        varying=propagation.varying,
    )


def _own(common: Traits, output: Output, shape: Sequence[int | None] | None, samples: Samples | None) -> Traits:
    if samples is None:
        return replace(common, fraction=output.fraction, scores=_ordinary(output, shape))
    scores = _scores(output, samples) or _ordinary(output, shape)
    return replace(common, fraction=output.fraction, varying=varying_share(samples), scores=scores)


def _ordinary(output: Output, shape: Sequence[int | None] | None) -> Scores | None:
    """Class scores of which no sample tells anything; None if the output holds none."""
    if output.holds is not Holds.CLASS_SCORES:
        return None
    axis = 1 if output.axis is None else output.axis
    known = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    return Scores(max(known or _FEWEST_CLASSES, _FEWEST_CLASSES), softmax=output.fraction)


def _scores(output: Output, samples: Samples) -> Scores | None:
    """What samples tell of class scores; None if the output holds none, or its classes are not told apart."""
    rows = _rows(output, samples)
    if output.holds is not Holds.CLASS_SCORES or rows is None or rows.shape[1] < _FEWEST_CLASSES:
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
