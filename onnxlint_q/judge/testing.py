"""What a rule sees of an example; `onnxlint_q.proof.testing` runs the rule on it."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.deployment.run import SAMPLES, run_as_deployed
from onnxlint_q.execute.half.run import run_halved
from onnxlint_q.execute.limits import DEFAULT_SAMPLES
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.graph.loading.build import build_model
from onnxlint_q.graph.loading.functions import inline_functions
from onnxlint_q.graph.tensors import TensorStore
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.rule import Example, Weights

_SEED = 20_260_101


def example_model(example: Example) -> onnx.ModelProto:
    """The example's model, its weights filled in."""
    return _filled(example.model, example.weights)


def reference_model(example: Example) -> onnx.ModelProto:
    """The float model of an example of a pair, its weights filled in."""
    return _filled(example.reference, example.weights)


def example_facts(example: Example) -> Facts:
    """All that a rule about one file sees of the example, calibrated where the example brings samples."""
    facts = _facts(example_model(example)).meant_for(example.targets)
    if example.samples is None or example.reference:
        return facts
    source = example_source(example)
    facts = facts.inspected(inspect(facts, source))
    if not facts.is_float:
        samples = list(source.take(facts.model.inputs, SAMPLES))
        facts = facts.run_as_deployed(run_as_deployed(facts.model, samples))
    with contextlib.suppress(NotRunnableError):  # as in a run of `check`, which then says what is missing
        facts = facts.observed(observe(facts, source))
        if facts.in_half:
            taken = partial(source.take, facts.model.inputs, DEFAULT_SAMPLES)
            facts = facts.run_as_half(run_halved(facts, taken, whole=facts.half_asked).halved)
    return facts


def reference_facts(example: Example) -> Facts:
    """What is known of the float model of an example of a pair; nothing is run."""
    return _facts(reference_model(example))


def example_source(example: Example) -> ArraySource:
    """The samples that an example brings."""
    assert example.samples is not None
    return ArraySource("example", dict(example.samples(np.random.default_rng(_SEED))))


def _filled(text: str, weights: Weights | None) -> onnx.ModelProto:
    """A model from its text, with those of `weights` that it reads as initializers."""
    proto = onnx.parser.parse_model(text)
    if weights is not None:
        read = {name for node in proto.graph.node for name in node.input}
        made = {name: value for name, value in weights(np.random.default_rng(_SEED)).items() if name in read}
        kept = [tensor for tensor in proto.graph.initializer if tensor.name not in made]
        proto.graph.ClearField("initializer")
        proto.graph.initializer.extend(kept)
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in made.items())
    return proto


def _facts(proto: onnx.ModelProto) -> Facts:
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    store = TensorStore(Path(), "example.onnx")
    model = build_model(inline_functions(proto, "example"), store, path=Path("example.onnx"), sha256=digest)
    return facts_of(model, DEFAULT_SCHEMES)
