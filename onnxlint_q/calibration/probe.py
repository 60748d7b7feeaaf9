"""No data, but executed: every layer and every scheme on synthetic inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.propagation.prior import input_scale
from onnxlint_q.calibration.executable import folded
from onnxlint_q.calibration.layer_table import measure_layers
from onnxlint_q.calibration.metrics import OutputError
from onnxlint_q.calibration.observe import observe
from onnxlint_q.calibration.progress import Progress, silent
from onnxlint_q.calibration.prove import prove
from onnxlint_q.calibration.session import NotRunnableError, Session
from onnxlint_q.calibration.synthetic import SyntheticSource
from onnxlint_q.facts import Facts

# Small pictures are cheap and vary more, so they get more samples: about this many pixels in all.
_PIXELS = 300_000
_FEWEST, _MOST = 4, 64
# Outputs between 0 and 1 that stay below this everywhere say that the network sees nothing in the input.
_EMPTY = 1e-3
_BOUNDED = frozenset({"Sigmoid", "Softmax", "HardSigmoid"})


@dataclass(frozen=True, eq=False)
class Probe:
    """What the run on synthetic inputs showed.

    Attributes:
        samples: how many inputs.
        weights: error with only one layer's weight quantised, by (scheme name, layer key).
        schemes: end-to-end error by scheme name, ranges taken from the same kind of inputs.
    """

    samples: int
    weights: Mapping[tuple[str, str], OutputError]
    schemes: Mapping[str, OutputError]


def probe(facts: Facts, progress: Progress = silent) -> Probe:
    """Quantise one layer at a time, and then everything, on seeded synthetic inputs.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the model on such inputs, or its outputs carry no signal on them.
        DataError: an input cannot be made up.
    """
    source = SyntheticSource(input_scale(facts.model, [layer.folded for layer in facts.layers]))
    count = _sample_count(facts)
    samples = partial(source.take, facts.model.inputs, count)
    base = folded(facts)
    exact = Session(base)
    if _is_empty(facts, [exact.run(sample) for sample in samples()]):
        raise NotRunnableError("the outputs are empty on synthetic inputs and carry no signal")
    weights = {
        (scheme.name, key): error
        for scheme in facts.schemes
        for key, error in measure_layers(facts, base, facts.layers, scheme, samples, progress).items()
    }
    whole = prove(facts, observe(facts, source, count, progress), (), source, count, progress)
    return Probe(count, weights, whole.schemes)


def _sample_count(facts: Facts) -> int:
    """Four to sixty-four, by the size of the largest input."""
    shapes = [value.type.shape or () for value in facts.model.inputs]
    largest = max((int(np.prod([dim or 224 for dim in shape[2:]])) for shape in shapes if len(shape) == 4), default=1)
    return int(np.clip(round(_PIXELS / max(largest, 1)), _FEWEST, _MOST))


def _is_empty(facts: Facts, outputs: Sequence[Sequence[npt.NDArray[Any]]]) -> bool:
    """Whether every output is a bounded score that stays next to zero on every sample."""
    for index, value in enumerate(facts.model.outputs):
        producer = facts.model.producer(value.name)
        if producer is None or producer.op_type not in _BOUNDED:
            return False
        if any(sample[index].size and float(np.abs(sample[index]).max()) >= _EMPTY for sample in outputs):
            return False
    return bool(facts.model.outputs)
