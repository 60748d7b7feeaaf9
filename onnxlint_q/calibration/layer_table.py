"""What each layer's weight alone costs the output: all layers of a scheme on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.calibration.batch_rules import MixesBatchError
from onnxlint_q.calibration.executable import Executable
from onnxlint_q.calibration.fanout import blocks, fan_out
from onnxlint_q.calibration.metrics import ErrorAccumulator, OutputError
from onnxlint_q.calibration.progress import Progress, silent
from onnxlint_q.calibration.session import NotRunnableError, Session
from onnxlint_q.calibration.variant_runs import Samples, measure_variants
from onnxlint_q.calibration.variants import quantized_weight, with_weight
from onnxlint_q.facts import Facts

Array = npt.NDArray[Any]

# One graph carries so many layers that its largest tensor stays below this.
_TENSOR_BYTES = 1 << 30
# The float part of the fanned-out graph has to give what the model itself gives, up to the order of its sums.
_SAME = 1e-3


def measure_layers(
    facts: Facts,
    base: Executable,
    layers: Sequence[LayerFacts],
    scheme: Scheme,
    samples: Samples,
    progress: Progress = silent,
) -> dict[str, OutputError]:
    """Error at the outputs with only one layer's weight quantised, by layer key.

    The layers run together in one graph where the network allows it, and one after the other where it does not.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    errors: dict[str, OutputError] = {}
    size = _layers_at_once(facts)
    for start in range(0, len(layers), size):
        progress(f"layers under {scheme.name}", start, len(layers))
        group = layers[start : start + size]
        try:
            errors |= _together(facts, base, group, scheme, samples)
        except (MixesBatchError, NotRunnableError):
            variants = {layer.output: partial(with_weight, base, facts, [layer], scheme) for layer in group}
            errors |= measure_variants(base, variants, samples, progress)
    return errors


def _layers_at_once(facts: Facts) -> int:
    shapes = (known.shape for known in facts.model.types.values() if known.shape is not None)
    largest = max((math.prod(dim or 1 for dim in shape) for shape in shapes), default=1 << 22)
    return max(4, _TENSOR_BYTES // (4 * largest))


def _together(
    facts: Facts, base: Executable, layers: Sequence[LayerFacts], scheme: Scheme, samples: Samples
) -> dict[str, OutputError]:
    fan = fan_out(facts.model, base, {layer.output: quantized_weight(facts, layer, scheme) for layer in layers})
    outputs = list(fan.order)
    session, exact = Session(fan.executable), Session(base)
    sums = {layer.output: ErrorAccumulator() for layer in layers}
    for number, sample in enumerate(samples()):
        if any(array.ndim and array.shape[0] != 1 for array in sample.values()):
            raise MixesBatchError("a sample is a batch of several")
        parts = [
            blocks(made, fan.order[name]) for name, made in zip(outputs, session.run(sample, outputs), strict=True)
        ]
        float_parts = [part for part, _ in parts]
        if number == 0:
            _check_same(exact.run(sample, outputs), float_parts)
        for key, accumulator in sums.items():
            accumulator.add(float_parts, [variants.get(key, part) for part, variants in parts])
    return {key: accumulator.result() for key, accumulator in sums.items()}


def _check_same(expected: Sequence[Array], got: Sequence[Array]) -> None:
    """Raise MixesBatchError if batch elements have met each other after all."""
    for one, other in zip(expected, got, strict=True):
        if one.shape != other.shape:
            raise MixesBatchError("an output has another shape in a batch")
        if np.issubdtype(one.dtype, np.floating) and one.size:
            power = float(np.square(one, dtype=np.float64).sum())
            error = float(np.square(one.astype(np.float64) - other).sum())
            if not error <= _SAME**2 * power:
                raise MixesBatchError("an output has other values in a batch")
