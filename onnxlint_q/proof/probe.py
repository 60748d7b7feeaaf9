"""No data, but executed: every layer and every scheme on synthetic inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.execute.data.source import OPEN_SIDE
from onnxlint_q.execute.data.synthetic import SyntheticSource
from onnxlint_q.execute.executable import Executable, folded
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.forecast.prior import input_scale
from onnxlint_q.judge.facts import Facts
from onnxlint_q.proof.prove import prove
from onnxlint_q.proof.sensitivity import measure_sensitivity

# Small pictures are cheap and vary more, so they get more samples: about this many pixels in all.
_PIXELS = 200_000
_FEWEST, _MOST = 2, 64
# The whole network runs once a scheme, not once a layer, so that it can afford a few more where samples are large.
_FEWEST_WHOLE = 4
# Outputs between 0 and 1 that stay below this everywhere say that the network sees nothing in the input.
_EMPTY = 1e-3
_SCORE = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Probe:
    """What the run on synthetic inputs showed.

    Attributes:
        samples: how many inputs the layers were compared on.
        weights: error with only one layer's weight quantised, by (scheme name, layer key).
        schemes: end-to-end error by scheme name, ranges taken from the same kind of inputs; empty if the outputs are.
        note: what weakens the figures, in words.
    """

    samples: int
    weights: Mapping[tuple[str, str], OutputError]
    schemes: Mapping[str, OutputError]
    note: str = ""


def probe(facts: Facts, progress: Progress = silent) -> Probe:
    """Quantise one layer at a time, and then everything, on seeded synthetic inputs.

    Where every output is a score that stays next to zero, the layers are compared at what the scores are computed
    from: a score squashes what a layer does to it, its input still orders the layers. It says nothing about how the
    scores themselves would fare, so there are no end-to-end figures then.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the model on such inputs.
        DataError: an input cannot be made up.
    """
    source = SyntheticSource(input_scale(facts.model, [layer.folded for layer in facts.layers]))
    count = _sample_count(facts)
    samples = partial(source.take, facts.model.inputs, count)
    base = folded(facts)
    exact = Session(base)
    empty = _is_empty(facts, [exact.run(sample) for sample in samples()])
    base = _before_scores(base) if empty else base
    weights = measure_sensitivity(facts, base, samples, progress=progress).weights
    if empty:
        note = "the outputs are empty on synthetic inputs: layers are compared at the input of the final "
        return Probe(count, weights, {}, f"{note}{' and '.join(_score_functions(facts))}, schemes are not judged")
    more = max(count, _FEWEST_WHOLE)
    whole = prove(facts, observe(facts, source, more, progress), (), source, more, progress)
    return Probe(count, weights, whole.schemes)


def _sample_count(facts: Facts) -> int:
    """Two to sixty-four, as many busy scenes as simple ones, by the size of the largest input."""
    shapes = [value.type.shape or () for value in facts.model.inputs]
    largest = max(
        (int(np.prod([dim or OPEN_SIDE for dim in shape[2:]])) for shape in shapes if len(shape) == 4), default=1
    )
    return int(np.clip(2 * round(_PIXELS / max(largest, 1) / 2), _FEWEST, _MOST))


def _is_empty(facts: Facts, outputs: Sequence[Sequence[npt.NDArray[Any]]]) -> bool:
    """Whether every output is a bounded score that stays next to zero on every sample."""
    for index, value in enumerate(facts.model.outputs):
        producer = facts.model.producer(value.name)
        if producer is None or producer.operator.bounds != _SCORE:
            return False
        if any(sample[index].size and float(np.abs(sample[index]).max()) >= _EMPTY for sample in outputs):
            return False
    return bool(facts.model.outputs)


def _score_functions(facts: Facts) -> Sequence[str]:
    producers = (facts.model.producer(value.name) for value in facts.model.outputs)
    return sorted({node.op_type for node in producers if node is not None})


def _before_scores(executable: Executable) -> Executable:
    """The same graph whose outputs are the inputs of the nodes that make them."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    made_from = {name: node.input[0] for node in proto.graph.node if node.input for name in node.output}
    before = dict.fromkeys(made_from[value.name] for value in proto.graph.output)
    del proto.graph.output[:]
    proto.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, before))
    return replace(executable, proto=proto)
