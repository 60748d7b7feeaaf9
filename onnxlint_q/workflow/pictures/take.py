"""The pictures of a model's findings, by fingerprint: of the first ones, as each takes time and room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Finding, Subject
from onnxlint_q.graph import Node
from onnxlint_q.graph.names import tensor_key
from onnxlint_q.judge.facts import Facts
from onnxlint_q.workflow.pictures.activations import activation_of
from onnxlint_q.workflow.pictures.sight import sight_of
from onnxlint_q.workflow.pictures.values import OnGrid, Picture
from onnxlint_q.workflow.pictures.weights import channels_of, gains_of, grid_of

MOST = 24
"""Findings that have pictures."""


def take(facts: Facts, findings: Iterable[Finding]) -> Mapping[str, Picture]:
    """The pictures of the findings that count and have something to show, by fingerprint."""
    found: dict[str, Picture] = {}
    for finding in findings:
        if len(found) >= MOST:
            break
        if finding.counts and finding.fingerprint not in found:
            picture = _picture(facts, finding)
            if picture != Picture():
                found[finding.fingerprint] = picture
    return found


def _picture(facts: Facts, finding: Finding) -> Picture:
    model, node = facts.model, _node(facts, finding)
    sight = sight_of(model, node) if node is not None else None
    layer = _layer(facts, finding)
    if layer is None:
        return Picture(sight=sight, activation=_activation(facts, finding))
    channels, left_out, half_step = channels_of(layer, finding)
    weight, merged = grid_of(model, layer, finding)
    norm = layer.folded.after or layer.folded.before
    about_norm = norm is not None and norm.node is node
    gains = gains_of(norm) if norm is not None and about_norm else ()
    return Picture(channels, left_out, half_step, weight, merged, gains, sight=sight)


def _node(facts: Facts, finding: Finding) -> Node | None:
    where = finding.location
    made = facts.model.producer(tensor_key(where.output, where.graph)) if where.output else None
    if made is None or (where.op_type and made.qualified_type == where.op_type):
        return made
    # Of a layer that something folds into, the finding names the layer and the result that is left.
    named = (one for one in facts.model.nodes if one.name == where.node and one.graph == where.graph)
    return next(named, made)


def _layer(facts: Facts, finding: Finding) -> LayerFacts | None:
    """The layer whose float weight a finding is about; None for one about something else."""
    claim = finding.claim
    if not facts.is_float or claim is None or claim.subject is not Subject.WEIGHT:
        return None
    return facts.layer_by_output.get(claim.tensor)


def _activation(facts: Facts, finding: Finding) -> OnGrid | None:
    claim, seen = finding.claim, facts.observations
    if seen is None or claim is None or claim.subject is not Subject.ACTIVATION:
        return None
    observed = seen.tensors.get(claim.tensor)
    return activation_of(claim.tensor, observed) if observed is not None else None
