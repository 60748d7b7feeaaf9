"""One pass forward for the samples of every tensor, one pass backward for what an error in it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.errors import OnnxlintError, with_place
from onnxlint_q.forecast.operators import elementwise, pooling, structure
from onnxlint_q.forecast.operators.layers import layer_rule
from onnxlint_q.forecast.population import HUGE, POSITIONS, SIZE, Samples, field
from onnxlint_q.forecast.prior import InputScale, input_samples, input_scale
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, Mixed, OutputCost, random_signs
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import MICROSOFT
from onnxlint_q.graph.settled import Settled
from onnxlint_q.graph.tensors import MOST_AXES

RULES: Mapping[str, TransferRule] = {**elementwise.RULES, **structure.RULES, **pooling.RULES}

# Samples and slopes of all tensors together: 2 GB. What comes after is treated as unknown.
_MAX_SAMPLES = 1 << 29
_MAX_COPIED = 1 << 14
# Samples take an axis of their own, and operators that split them a few more.
_MAX_RANK = MOST_AXES // 2


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """What the pass forward found.

    Attributes:
        samples: by tensor key.
        steps: nodes with their edges, in data order.
        unknown: operators that no rule could model, each with the first reason.
        failures: places where a rule of the forecast itself failed, in words; a fault of this program, not of the file.
        varying: share of the power of the outputs that is variance, averaged over them.
        overflown: an output is larger than samples can be, so noise beside it means nothing.
    """

    samples: Mapping[str, Samples]
    steps: tuple[tuple[Node, Step], ...]
    unknown: Mapping[str, str]
    failures: tuple[str, ...] = ()
    varying: float = 1.0
    overflown: bool = False


def propagate(model: Model, layers: Sequence[FoldedLayer], rules: Mapping[str, TransferRule] = RULES) -> Propagation:
    """Samples of every float tensor of the main graph, by the `rules` of its operators.

    An operator that no rule can model passes its first input through or becomes a unit Gaussian, and is named with the
    reason.
    """
    return _forward(model, layers, input_scale(model, layers), rules)


def varying_share(samples: Samples) -> float:
    """Share of the power of a tensor that is variance."""
    with np.errstate(all="ignore"):
        power = float((samples.astype(np.float64) ** 2).mean())
        return float(samples.var(axis=0, dtype=np.float64).mean()) / power if power > 0 else 1.0


def _forward(
    model: Model, layers: Sequence[FoldedLayer], scale: InputScale, rules: Mapping[str, TransferRule]
) -> Propagation:
    known = {
        value.name: input_samples(value, scale, seed)
        for seed, value in enumerate(model.inputs)
        if (value.type.elem_type in FLOATS or value.type.elem_type == 0) and len(value.type.shape or ()) <= _MAX_RANK
    }
    settled = Settled(model, partial(_shape_of, model, known))
    by_node = {folded.layer.node: folded.layer for folded in layers}
    steps: list[tuple[Node, Step]] = []
    held = 0
    unknown: dict[str, str] = {}
    failures: list[str] = []
    powers: dict[str, float] = {}
    with np.errstate(all="ignore"):
        for node in model.nodes:
            if node.graph != ROOT or not node.output or model.is_constant(node.output) or settled.add(node):
                continue
            try:
                if held > _MAX_SAMPLES:
                    raise UnmodelledError("the network is too large to represent as a whole")
                step = _known_step(Site(model, node, known, settled.values), by_node.get(node), rules)
                # An edge keeps a slope for each sample.
                held += sum(made.size for made in step.outputs) * (1 + len(step.edges))
            except OnnxlintError:
                raise
            except Exception as error:  # a fault of a rule weakens the forecast and is told; it does not end the lint
                sources = [key for key in dict.fromkeys((*node.inputs, *node.captured)) if key in known]
                if not isinstance(error, UnmodelledError):
                    failures.append(failure(node, error))
                if not sources or not _carries_values(model, node):
                    continue
                unknown.setdefault(node.qualified_type, str(error))
                step = _unknown_step(model, node, sources, known, powers)
            steps.append((node, step))
            # A tensor without elements holds no values, and no error either.
            known.update(
                (key, made) for key, made in zip(node.outputs, step.outputs, strict=False) if key and made.size
            )
    outputs = [known[value.name] for value in model.outputs if value.name in known]
    varying = float(np.mean([varying_share(samples) for samples in outputs])) if outputs else 1.0
    overflown = any(bool((np.abs(samples) >= HUGE).any()) for samples in outputs)
    return Propagation(known, tuple(steps), unknown, tuple(failures), varying, overflown)


def _shape_of(model: Model, known: Mapping[str, Samples], key: str) -> tuple[int | None, ...] | None:
    """What inference knows, else the axes that the samples tell apart."""
    shape = model.shape(key)
    if shape is not None or key not in known:
        return shape
    return tuple(length if length > 1 else None for length in known[key].shape[1:])


def _known_step(site: Site, layer: Layer | None, rules: Mapping[str, TransferRule]) -> Step:
    rule = rules.get(site.node.op_type) if site.node.is_standard or site.node.domain == MICROSOFT else None
    if layer is not None:
        return layer_rule(site, layer)
    if rule is None:
        raise UnmodelledError("the forecast has no rule for it")
    return rule(site)


def _unknown_step(
    model: Model, node: Node, sources: Sequence[str], known: Mapping[str, Samples], powers: dict[str, float]
) -> Step:
    """What an operator without a rule does; `powers` keeps those of the sources, of which it may have many outputs."""
    first = known[sources[0]]
    shape = model.shape(node.output)
    if shape is not None and shape == model.shape(sources[0]) and first.size < SIZE * _MAX_COPIED:
        edges = (Edge(sources[0], Adjoint(lambda rows: rows)),)
        return Step((first,), edges)
    for source in sources:
        if source not in powers:
            powers[source] = max(float((known[source].astype(np.float64) ** 2).sum()) / SIZE, 1e-30)
    outputs, mixed = [], []
    draw = np.random.default_rng(node.order)
    for position, key in enumerate(node.outputs):
        made = model.shape(key) if key else None
        outputs.append(field(draw, (1,) * min(len(made) if made is not None else first.ndim - 1, _MAX_RANK)))
        mixed += [Edge(key, Mixed(1 / powers[key], known[key].shape[1:]), position) for key in sources]
    return Step(tuple(outputs), tuple(mixed))


def _carries_values(model: Model, node: Node) -> bool:
    """Whether the node computes on values, not on shapes."""
    known = model.types.get(node.output)
    return known is None or known.elem_type == 0 or known.elem_type in FLOATS


def output_costs(model: Model, propagation: Propagation) -> tuple[Mapping[str, OutputCost], tuple[str, ...]]:
    """OutputCost of every tensor that reaches an output, and where the sweep back failed, as `Propagation.failures`.

    Noise over signal is averaged over the outputs.
    """
    outputs = [value.name for value in model.outputs if value.name in propagation.samples]
    draw = np.random.default_rng(0)
    costs: dict[str, OutputCost] = {}
    failures: list[str] = []
    for name in outputs:
        samples = propagation.samples[name]
        power = max(float((samples.astype(np.float64) ** 2).sum()) / SIZE, 1e-30) * len(outputs)
        rows = random_signs(draw, samples.shape) / np.float32(np.sqrt(power * POSITIONS))
        _add(costs, name, OutputCost(np.asarray(rows, np.float32)))
    with np.errstate(all="ignore"):
        for node, step in reversed(propagation.steps):
            for edge in step.edges:
                behind = costs.get(node.outputs[edge.output])
                if behind is None:
                    continue
                try:
                    _add(costs, edge.source, _pulled(edge, behind, propagation.samples[edge.source]))
                except OnnxlintError:
                    raise
                except Exception as error:  # as in the pass forward
                    failures.append(failure(node, error))
    return costs, tuple(failures)


def _pulled(edge: Edge, cost: OutputCost, source: Samples) -> OutputCost:
    pulled = edge.transfer.pull(cost)
    if pulled.rows.shape != source.shape:
        raise ValueError(f"rows of shape {pulled.rows.shape} for samples of shape {source.shape}")
    return pulled


def failure(node: Node, error: Exception) -> str:
    """What a report says of a rule that failed at a node."""
    return f"{node.qualified_type} {node.label!r}: {with_place(error)}"


def _add(costs: dict[str, OutputCost], key: str, more: OutputCost) -> None:
    costs[key] = costs[key] + more if key in costs else more
