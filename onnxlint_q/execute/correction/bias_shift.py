"""The mean error of each quantised layer, measured in data order with those before it already corrected.

Layers that are all measured at once each take up the errors of the layers before them as well, and shift too far. So
the float and the quantised network run side by side, layer by layer, on the same samples. What the float one has more
of in a channel, in the mean over samples and positions, is the shift of that bias, and the quantised network goes on
with it (Nagel et al., arXiv 1906.04721, section 4.2).

A mean over a few samples is itself uncertain. Of a mean error `m` with the standard error `s` over samples the part
`max(0, 1 - s^2 / m^2)` is taken, the positive-part estimator of James and Stein for one channel: nothing of what chance
alone would give, nearly all of what is many times as large.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.execute.correction.frontier import Frontier, that_fit
from onnxlint_q.execute.executable import Array
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.rounding import unrounded
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.rewrite.bias_correction import BiasPlace, Shifts, bias_places

Vector = npt.NDArray[np.float64]


def measure_shifts(bench: Workbench, experiment: Experiment, samples: Samples, progress: Progress = silent) -> Shifts:
    """What is to be added to the result of each layer with a quantised weight, one value a channel, by layer.

    A layer whose error is nothing but chance has no entry. Where the tensors between two layers are too large for all
    samples, the first of them are used that there is room for.

    Args:
        bench: the float network, with the ranges of its activations.
        experiment: what is quantised, and how.
        samples: starts a fresh pass over the samples.
        progress: told how many layers are done.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the network layer by layer.
        DataError: a sample cannot be read.
    """
    weights = set(bench.weights_of(experiment))
    places = [place for place in bias_places(bench.measured) if isinstance(place, BiasPlace)]
    places = [place for place in places if place.tensor in weights]
    renamed = unrounded(bench.activations_of(experiment))
    given = that_fit(samples(), bench.limits)
    exact = Frontier(bench.float_model, [place.result for place in places], given, bench.limits)
    results = [renamed.get(place.result, place.result) for place in places]
    rounded = Frontier(bench.executable(experiment), results, given, bench.limits)
    del given
    found: dict[str, Vector] = {}
    for done, (place, result) in enumerate(zip(places, results, strict=True)):
        progress("correcting biases", done, len(places))
        exact.advance()
        rounded.advance()
        both = min(exact.samples, rounded.samples)
        exact.keep(both)
        rounded.keep(both)
        pairs = zip(exact.values(place.result), rounded.values(result), strict=True)
        shift = beyond_chance(np.stack([_mean_error(*pair, place) for pair in pairs]))
        if shift.any():
            found[place.tensor] = shift
            rounded.shift(result, shift, place.axis)
    return found


def beyond_chance(errors: Vector) -> Vector:
    """The mean error of each channel, without as much as chance may be; 0 where it is not finite or of one sample.

    Args:
        errors: `[samples, channels]`.
    """
    count = len(errors)
    if count < 2:
        return np.zeros(errors.shape[1])
    with np.errstate(all="ignore"):
        mean, chance = errors.mean(axis=0), errors.var(axis=0, ddof=1) / count
        found = mean * np.maximum(0, 1 - chance / np.square(mean))
    return np.where(np.isfinite(found), found, 0)


def _mean_error(exact: Array, rounded: Array, place: BiasPlace) -> Vector:
    """Of each channel, over the positions of one sample."""
    rows = np.moveaxis(np.subtract(exact, rounded, dtype=np.float32), place.axis, 0).reshape(place.channels, -1)
    return np.asarray(rows.mean(axis=1), np.float64)
