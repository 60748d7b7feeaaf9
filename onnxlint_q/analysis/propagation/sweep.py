"""One pass forward for the moments of every tensor, one pass backward for its gain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from onnxlint_q.analysis.propagation import elementwise, linear, structure
from onnxlint_q.analysis.propagation.signal import Moments, gaussian
from onnxlint_q.analysis.propagation.step import Edge, Rule, Site, Step
from onnxlint_q.analysis.propagation.transfer import Diagonal, Gain, Mixed
from onnxlint_q.graph import Layer, Model, Node, Value

RULES: Mapping[str, Rule] = {**elementwise.RULES, **structure.RULES, **linear.RULES}
ROWS = 64
_FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
)


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """What one pass forward found.

    Attributes:
        moments: by tensor key.
        steps: nodes with their edges, in data order.
        unknown: operators without a rule for what was asked of them.
    """

    moments: Mapping[str, Moments]
    steps: tuple[tuple[Node, Step], ...]
    unknown: tuple[str, ...]


def propagate(model: Model, layers: Mapping[Node, Layer]) -> Propagation:
    """Moments of every float tensor of the main graph."""
    known: dict[str, Moments] = {value.name: prior(value) for value in model.inputs if _is_float(value)}
    steps: list[tuple[Node, Step]] = []
    unknown: dict[str, None] = {}
    for node in model.nodes:
        if node.graph != "main" or not node.output or model.is_constant(node.output):
            continue
        sources = [key for key in (*node.inputs, *node.captured) if key in known]
        step = _attempt(Site(model, node, known), layers.get(node))
        if step is None:
            if not sources or not _carries_values(model, node):
                continue
            unknown[node.qualified_type] = None
            step = _unknown(model, node, sources, known)
        steps.append((node, step))
        for key, moments in zip(node.outputs, step.outputs, strict=False):
            if key:
                known[key] = moments
    return Propagation(known, tuple(steps), tuple(unknown))


def prior(value: Value) -> Moments:
    """An input before anything is known of it: zero mean, unit variance, as images and features are normalised."""
    shape = value.type.shape
    rank = len(shape) if shape is not None else 4
    wide = tuple((shape[a] or 1) if shape is not None and a == 1 and rank >= 2 else 1 for a in range(rank))
    return gaussian(np.zeros(wide), np.ones(wide))


def _attempt(site: Site, layer: Layer | None) -> Step | None:
    """The step of a rule; None where no rule fits, or where the graph is odd enough to make it fail."""
    if not site.node.is_standard and site.node.domain != "com.microsoft":
        return None
    try:
        if layer is not None:
            return linear.layer_rule(site, layer)
        rule = RULES.get(site.node.op_type)
        return rule(site) if rule is not None else None
    except (ValueError, IndexError, TypeError, KeyError, MemoryError, ArithmeticError):
        return None


def _unknown(model: Model, node: Node, sources: list[str], known: Mapping[str, Moments]) -> Step:
    """Pass the first input through where the shapes allow; else a normalised tensor that everything reaches."""
    first = known[sources[0]]
    shape = model.shape(node.output)
    if shape is not None and shape == model.shape(sources[0]):
        one = np.ones(first.shape)
        plain = Moments(first.mean, first.var)
        return Step((plain,) * len(node.outputs), (Edge(sources[0], Diagonal(one, one, first.shape)),))
    outputs, edges = [], []
    for position, key in enumerate(node.outputs):
        made = model.shape(key) if key else None
        rank = len(made) if made is not None else first.mean.ndim
        outputs.append(gaussian(np.zeros((1,) * rank), np.ones((1,) * rank)))
        for source in sources:
            power = max(float(known[source].power.sum()), 1e-30)
            edges.append(Edge(source, Mixed(1.0 / power, known[source].shape), position))
    return Step(tuple(outputs), tuple(edges))


def _carries_values(model: Model, node: Node) -> bool:
    """Whether the node computes on values, not on shapes."""
    known = model.types.get(node.output)
    return known is None or known.elem_type == 0 or known.elem_type in _FLOATS


def _is_float(value: Value) -> bool:
    return value.type.elem_type in _FLOATS or value.type.elem_type == 0


def gains(model: Model, found: Propagation) -> Mapping[str, Gain]:
    """Gain of every tensor that reaches an output: noise power over signal power, mean over the outputs."""
    outputs = [v.name for v in model.outputs if v.name in found.moments]
    passing: dict[str, Gain] = {}
    local: dict[str, Gain] = {}
    draw = np.random.default_rng(0)
    for name in outputs:
        _add(passing, name, _at_output(found.moments[name], len(outputs), draw))
    for node, step in reversed(found.steps):
        for edge in step.edges:
            key = node.outputs[edge.output]
            if key not in passing or edge.source not in found.moments:
                continue
            _add(local if edge.local else passing, edge.source, edge.transfer.pull(passing[key]))
    return {
        key: passing[key] + local[key] if key in passing and key in local else passing.get(key) or local[key]
        for key in {**passing, **local}
    }


def _add(gains_: dict[str, Gain], key: str, gain: Gain) -> None:
    gains_[key] = gains_[key] + gain if key in gains_ else gain


def _at_output(moments: Moments, count: int, draw: np.random.Generator) -> Gain:
    power = max(float(moments.power.sum()), 1e-30) * count
    signs = draw.integers(0, 2, (ROWS, *moments.shape)).astype(np.float32) * 2 - 1
    flat = np.full(moments.shape, 1 / power, np.float32)
    return Gain(signs / np.float32(np.sqrt(power)), np.zeros(moments.shape, np.float32), flat)
