"""Rows of what each tensor alone costs, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from onnxlint_q.analysis.causes.roles import TensorRole, role_of
from onnxlint_q.analysis.observed.costs import SchemeCosts
from onnxlint_q.finding import Finding, Subject
from onnxlint_q.forecast.forecast import TensorNoise
from onnxlint_q.graph import Node
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.facts import Facts
from onnxlint_q.workflow.results import SchemeResult, TensorRow


def measured_rows(facts: Facts, costs: SchemeCosts) -> tuple[TensorRow, ...]:
    """A row for each tensor that was quantised alone under one scheme, in data order."""
    return tuple(_row(facts, cost.kind, cost.tensor, cost.sqnr_db, costs.share(cost)) for cost in costs.tensors)


def foreseen_rows(facts: Facts, tensors: Iterable[TensorNoise]) -> tuple[TensorRow, ...]:
    """A row for each tensor whose noise was forecast, in data order, a weight before its result."""
    rows = (
        _row(facts, one.kind, one.tensor, math.inf if one.sqnr_db is None else one.sqnr_db, one.share)
        for one in tensors
    )
    return tuple(sorted(rows, key=lambda row: (row.depth, row.kind is Subject.ACTIVATION)))


def with_shares(findings: Iterable[Finding], schemes: Iterable[SchemeResult]) -> Iterator[Finding]:
    """The findings with what their tensors make of the noise of each scheme that they speak of.

    Schemes round activations alike, so a claim about one speaks of all.
    """
    shares = {result.scheme: {(row.kind, row.tensor): row.share for row in result.tensors} for result in schemes}
    for finding in findings:
        claim, explains = finding.claim, dict[str, float]()
        if claim is not None:
            for scheme, known in shares.items():
                if claim.subject is Subject.ACTIVATION or claim.scheme == scheme:
                    explains[scheme] = sum(known.get((claim.subject, tensor), 0.0) for tensor in claim.tensors)
        told = {scheme: share for scheme, share in explains.items() if share > 0}
        yield replace(finding, explains=told) if told else finding


def unexplained(costs: SchemeCosts) -> Iterator[str]:
    """That the tensors, each alone, do not make up for the loss of the whole; nothing where they do."""
    if not costs.tensors or costs.missing or costs.explained:
        return
    if costs.ill_fitted:
        yield (
            "the ranges do not fit new samples: on the samples that they were taken from "
            f"{costs.fitted_db:.1f} dB are left"
        )
    else:
        yield (
            f"no tensor alone explains the loss: quantised one by one, all {len(costs.tensors)} together leave "
            f"{costs.together_db:.1f} dB"
        )


def _row(facts: Facts, kind: Subject, tensor: str, sqnr_db: float, share: float) -> TensorRow:
    node, of_layer = _node(facts, kind, tensor)
    role = TensorRole.WEIGHT if kind is Subject.WEIGHT else role_of(facts.model, tensor, of_layer=of_layer)
    return TensorRow(
        tensor=local_name(tensor, node.graph) if node is not None else tensor,
        kind=kind,
        node=node.name if node is not None else "",
        op_type=node.op_type if node is not None else "",
        sqnr_db=sqnr_db,
        share=share,
        role=role,
        depth=node.order / max(len(facts.model.nodes), 1) if node is not None else 0.0,
    )


def _node(facts: Facts, kind: Subject, tensor: str) -> tuple[Node | None, bool]:
    """The operator that has the weight, or that the activation is the result of, and whether that is a layer.

    None for an input of the model.
    """
    layer = facts.layer_by_output.get(tensor) if kind is Subject.WEIGHT else facts.layer_stored_in.get(tensor)
    if layer is not None and (kind is Subject.WEIGHT or layer.output == tensor):
        return layer.node, True
    return facts.model.producer(tensor), layer is not None
