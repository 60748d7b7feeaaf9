"""Runs a rule's examples: for the tests of this project and of any rule package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.finding import Finding
from onnxlint_q.graph.loading.build import build_model
from onnxlint_q.graph.loading.functions import inline_functions
from onnxlint_q.graph.tensors import TensorStore
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.rule import Example, Rule

_SEED = 20_260_101


def example_model(example: Example) -> onnx.ModelProto:
    """The example's model, its weights filled in."""
    proto = onnx.parser.parse_model(example.model)
    if example.weights is not None:
        made = example.weights(np.random.default_rng(_SEED))
        kept = [tensor for tensor in proto.graph.initializer if tensor.name not in made]
        proto.graph.ClearField("initializer")
        proto.graph.initializer.extend(kept)
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in made.items())
    return proto


def example_facts(example: Example) -> Facts:
    """All that a rule sees of the example, calibrated where the example brings samples."""
    proto = example_model(example)
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    store = TensorStore(Path(), "example")
    model = build_model(inline_functions(proto, "example"), store, path=Path("example.onnx"), sha256=digest)
    facts = facts_of(model, DEFAULT_SCHEMES)
    if example.samples is None:
        return facts
    arrays = dict(example.samples(np.random.default_rng(_SEED)))
    source = ArraySource("example", arrays)
    facts = facts.inspected(inspect(facts, source))
    return facts.observed(observe(facts, source))


def run_example(rule: Rule, example: Example) -> Sequence[Finding]:
    """The rule's findings on the example."""
    return list(rule.check(example_facts(example)))


def flagged(findings: Sequence[Finding]) -> set[str]:
    """What an example's `flags` are compared with: node names, or tensors where a node has no name."""
    return {finding.location.node or finding.location.output for finding in findings}
