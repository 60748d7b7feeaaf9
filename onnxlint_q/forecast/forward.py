"""The pass forward: samples of every tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from onnxlint_q.analysis.causes.masks import Mask
from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.inputs.contents import Kind, find_contents
from onnxlint_q.errors import OnnxlintError, with_place
from onnxlint_q.forecast.inputs.prior import InputScale, input_samples, input_scale, signals
from onnxlint_q.forecast.inputs.tokens import token_inputs
from onnxlint_q.forecast.operators import elementwise, picking, pooling, products, recurrent, structure
from onnxlint_q.forecast.operators.control import lists
from onnxlint_q.forecast.operators.control.bodies import body_of, has_rounds
from onnxlint_q.forecast.operators.control.branches import THEN, Branches, if_rule, is_if, walks
from onnxlint_q.forecast.operators.layers import layer_rule
from onnxlint_q.forecast.operators.masked import Which, ruled_out
from onnxlint_q.forecast.population import HUGE, POSITIONS, Samples, neighbours, positions_of
from onnxlint_q.forecast.population import field as gaussian
from onnxlint_q.forecast.step import Edge, Reading, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, Mixed
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import MICROSOFT
from onnxlint_q.graph.settled import Settled
from onnxlint_q.graph.tensors import MOST_AXES, Array

RULES: Mapping[str, TransferRule] = {
    **elementwise.RULES,
    **structure.RULES,
    **pooling.RULES,
    **products.RULES,
    **recurrent.RULES,
    **picking.RULES,
    **lists.RULES,
}


# Samples and slopes of all tensors together, 2 GB at most: so many for any network, and more for each weight. Of 60
# networks the largest needs 4 a weight, small ones up to 150 million in all; a few bytes can claim any number of
# channels. What comes after counts as unknown.
_MAX_SAMPLES, _FREE_SAMPLES, _SAMPLES_A_WEIGHT = 1 << 29, 1 << 27, 64
_MAX_COPIED = 1 << 14
# Samples take an axis of their own, and operators that split them a few more.
_MAX_RANK = MOST_AXES // 2


@dataclass(frozen=True, eq=False)
class Propagation:
    """What the pass forward found.

    Attributes:
        samples: by tensor key.
        steps: nodes of the main graph and of branches with their edges, in data order.
        unknown: operators that no rule could model, each with the first reason.
        failures: places where a rule of the forecast itself failed, in words; a fault of this program, not of the file.
        overflown: an output is larger than samples can be, so noise beside it means nothing.
        ruled_out: by tensor, which samples are a mask and no score, where a mask of the file rules positions out.
        shapes: of tensors of which more is known than inference tells.
        invented: token ids were drawn at random, so that the sequences are none that the network has learnt.
        open_branches: labels of each If with layers of which nothing decides what it does; its first branch is taken.
    """

    samples: Mapping[str, Samples]
    steps: tuple[tuple[Node, Step], ...]
    unknown: Mapping[str, str]
    failures: tuple[str, ...] = ()
    overflown: bool = False
    ruled_out: Mapping[str, Which] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    invented: bool = False
    open_branches: tuple[str, ...] = ()

    @cached_property
    def readings(self) -> Mapping[str, Reading]:
        """How errors of the weights of recurrent operators reach their outputs, by the first of these."""
        return {node.output: step.reading for node, step in _all(self.steps) if step.reading is not None}

    def unmasked(self, key: str) -> Samples:
        """Samples of a tensor, with zeros where a mask rules positions out: every range holds zero."""
        samples, apart = self.samples[key], self.ruled_out.get(key)
        return samples if apart is None else np.where(apart, np.float32(0), samples)


def propagate(
    model: Model,
    layers: Sequence[FoldedLayer],
    rules: Mapping[str, TransferRule] = RULES,
    masks: Sequence[Mask] = (),
    either: str = THEN,
    positions: int = POSITIONS,
) -> Propagation:
    """Samples of every float tensor of a network, by the `rules` of its operators.

    An operator that no rule can model passes its first input through or becomes a unit Gaussian, and is named with the
    reason. A state that the model gives back is what comes out of a first pass.

    Args:
        model: the network.
        layers: its folded layers.
        rules: by operator.
        masks: of the network. One that inputs decide on rules nothing out.
        either: which branch an If takes that nothing decides.
        positions: samples of an image.
    """
    forward = partial(_forward, model, layers, input_scale(model, layers), rules, masks, either, positions)
    found = forward({})
    fed_back = _fed_back(model, found, positions) if layers else {}
    if not fed_back:
        return found
    del found  # as large as what comes
    return forward(fed_back)


def _fed_back(model: Model, found: Propagation, positions: int) -> Mapping[str, Samples]:
    """Samples of each input that holds a state: what another moment of the same image leaves, where that is known.

    What grows on its way through the network is no state, which forgets.
    """
    ((order, _),) = neighbours(1, positions)
    states = {name: held.output for name, held in find_contents(model).items() if held.kind is Kind.STATE}
    pairs = {name: found.samples[after] for name, after in states.items() if {name, after} <= found.samples.keys()}
    return {
        name: after[order]
        for name, after in pairs.items()
        if after.shape == found.samples[name].shape and after.std() <= found.samples[name].std()
    }


def _forward(
    model: Model,
    layers: Sequence[FoldedLayer],
    scale: InputScale,
    rules: Mapping[str, TransferRule],
    masks: Sequence[Mask],
    either: str,
    positions: int,
    states: Mapping[str, Samples],
) -> Propagation:
    tokens, heard = token_inputs(model, positions), signals(model, layers)
    known = {
        value.name: input_samples(model, value, scale, seed, is_signal=value.name in heard, positions=positions)
        for seed, value in enumerate(model.inputs)
        if (value.type.elem_type in FLOATS or value.type.elem_type == 0)
        and len(value.type.shape or ()) <= _MAX_RANK
        and value.name not in tokens.settled
    }
    known.update(tokens.samples)
    known.update(states)
    found = _Forward(model, layers, rules, masks, either, known, tokens.settled)
    with np.errstate(all="ignore"):
        steps = found.walk(ROOT)
    outputs = [known[value.name] for value in model.outputs if value.name in known]
    overflown = any(bool((np.abs(samples) >= HUGE).any()) for samples in outputs)
    branches = found.branches
    told = {node.qualified_type: why for node, why in reversed(found.unknown.items()) if not branches.leave(node)}
    return Propagation(
        known,
        tuple(steps),
        dict(reversed(told.items())),
        failures=tuple(why for node, why in found.failures.items() if not branches.leave(node)),
        overflown=overflown,
        ruled_out=ruled_out(masks, known),
        shapes=found.shapes,
        invented=bool(tokens.samples),
        open_branches=branches.open({folded.layer.node.graph for folded in layers}),
    )


class _Forward:
    """The pass forward: the nodes it goes through, and what it has found so far, some of it in `known`."""

    def __init__(
        self,
        model: Model,
        layers: Sequence[FoldedLayer],
        rules: Mapping[str, TransferRule],
        masks: Sequence[Mask],
        either: str,
        known: dict[str, Samples],
        settled: Mapping[str, Array],
    ) -> None:
        self._model = model
        self._rules = rules
        self._known = known
        self._walks = walks(model)
        self._settled = Settled(model, partial(_shape_of, model, known), {node.graph for node in model.nodes})
        self._settled.values.update(settled)
        self._joined = {tensor: scores for mask in masks for tensor, scores in mask.joined.items()}
        self._by_node = {folded.layer.node: folded.layer for folded in layers if folded.layer.is_product}
        weights = sum(math.prod(folded.layer.weight_shape) for folded in layers)
        self._most = min(_MAX_SAMPLES, _FREE_SAMPLES + _SAMPLES_A_WEIGHT * weights)
        self._held = 0
        self._powers: dict[str, float] = {}
        self.branches = Branches(self._settled, either)
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self.unknown: dict[Node, str] = {}
        self.failures: dict[Node, str] = {}

    def walk(self, graph: str, depth: int = 0) -> list[tuple[Node, Step]]:
        """Go through a graph that lies in so many bodies; its nodes with their edges."""
        model, known = self._model, self._known
        steps: list[tuple[Node, Step]] = []
        for node in self._walks.get(graph, ()):
            taken = self.branches.take(node) if is_if(node) else ""
            if not node.output or model.is_constant(node.output):
                continue
            if self._settled.add(node):
                continue
            self.unknown.pop(node, None)  # of an earlier round
            try:
                if self._held > self._most:
                    raise UnmodelledError("the network is too large to represent as a whole")
                site = Site(model, node, known, self._settled.values, self.shapes)
                step = self._step(site, taken, depth)
                # An edge keeps a slope for each sample.
                self._held += sum(made.size for made in step.outputs) * (1 + len(step.edges))
            except OnnxlintError:
                raise
            except Exception as error:  # a fault of a rule weakens the forecast and is told; it does not end the lint
                sources = [key for key in dict.fromkeys((*node.inputs, *node.captured)) if key in known]
                if not isinstance(error, UnmodelledError):
                    self.failures[node] = failure(node, error)
                if not sources or not _carries_values(model, node):
                    continue
                self.unknown[node] = str(error)
                step = _unknown_step(model, node, sources, known, self._powers)
            steps.append((node, step))
            if step.shape is not None:
                self.shapes[node.output] = step.shape
            # A tensor without elements holds no values, and no error either.
            known.update(
                (key, made) for key, made in zip(node.outputs, step.outputs, strict=False) if key and made.size
            )
        return steps

    def _step(self, site: Site, taken: str, depth: int) -> Step:
        if taken:
            return if_rule(site, taken)
        if has_rounds(site.node):
            return self._rounds(site, depth)
        return _known_step(site, self._by_node.get(site.node), self._rules, self._joined)

    def _rounds(self, site: Site, depth: int) -> Step:
        """Go through a body round after round."""
        body = body_of(site)
        most = body.rounds(len(self._walks.get(body.graph, ())), depth)
        given, held, made = body.first, self._held, 0
        steps: list[tuple[Node, Step]] = []
        while not made or (given and made < most):
            self._known.update(given)
            self._powers.clear()
            self._held = held
            steps = self.walk(body.graph, depth + 1)
            made += 1
            given = body.handed_on(self._known)
        return body.step(self._known, steps, most)


def _shape_of(model: Model, known: Mapping[str, Samples], key: str) -> tuple[int | None, ...] | None:
    """What inference knows, else the axes that the samples tell apart."""
    shape = model.shape(key)
    if shape is not None or key not in known:
        return shape
    return tuple(length if length > 1 else None for length in known[key].shape[1:])


def _same(key: str, samples: Samples) -> Step:
    return Step((samples,), (Edge(key, Adjoint(lambda rows: rows)),))


def _known_step(site: Site, layer: Layer | None, rules: Mapping[str, TransferRule], joined: Mapping[str, str]) -> Step:
    scores = joined.get(site.node.output, "")
    if scores in site.known and not _knows_mask(site, scores):
        return _same(scores, site.known[scores])
    rule = rules.get(site.node.op_type) if site.node.is_standard or site.node.domain == MICROSOFT else None
    if layer is not None:
        return layer_rule(site, layer)
    if rule is None:
        raise UnmodelledError("the forecast has no rule for it")
    return rule(site)


def _knows_mask(site: Site, scores: str) -> bool:
    """Whether all that meets the scores is settled."""
    others = [key for key in site.node.inputs if key and key != scores]
    return all(key in site.settled or site.model.is_constant(key) for key in others)


def _unknown_step(
    model: Model, node: Node, sources: Sequence[str], known: Mapping[str, Samples], powers: dict[str, float]
) -> Step:
    """What an operator without a rule does; `powers` keeps those of the sources, of which it may have many outputs."""
    first = known[sources[0]]
    shape = model.shape(node.output)
    if shape is not None and shape == model.shape(sources[0]) and first.size < len(first) * _MAX_COPIED:
        return _same(sources[0], first)
    for source in sources:
        if source not in powers:
            powers[source] = max(float((known[source].astype(np.float64) ** 2).sum()) / len(first), 1e-30)
    outputs, mixed = [], []
    draw = np.random.default_rng(node.order)
    for position, key in enumerate(node.outputs):
        made = model.shape(key) if key else None
        rank = min(len(made) if made is not None else first.ndim - 1, _MAX_RANK)
        outputs.append(gaussian(draw, (1,) * rank, positions_of(first)))
        mixed += [Edge(key, Mixed(1 / powers[key], known[key].shape[1:]), position) for key in sources]
    return Step(tuple(outputs), tuple(mixed))


def _carries_values(model: Model, node: Node) -> bool:
    """Whether the node computes on values, not on shapes."""
    types = (model.types.get(name) for name in node.outputs if name)
    return any(known is None or known.elem_type == 0 or known.elem_type in FLOATS for known in types)


def _all(steps: Sequence[tuple[Node, Step]]) -> Iterator[tuple[Node, Step]]:
    """Those of bodies too."""
    for node, step in steps:
        if step.rounds is not None:
            yield from _all(step.rounds.steps)
        yield node, step


def failure(node: Node, error: Exception) -> str:
    """What a report says of a rule that failed at a node."""
    return f"{node.qualified_type} {node.label!r}: {with_place(error)}"
