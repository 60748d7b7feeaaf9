"""Rows of what each tensor alone costs, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator

from onnxlint_q.analysis.observed.costs import SchemeCosts, TensorCost
from onnxlint_q.finding import Subject
from onnxlint_q.graph import Node
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.facts import Facts
from onnxlint_q.workflow.results import TensorRow


def tensor_rows(facts: Facts, costs: SchemeCosts) -> tuple[TensorRow, ...]:
    """A row for each tensor that was quantised alone under one scheme, in data order."""
    return tuple(_row(facts, costs, cost) for cost in costs.tensors)


def unexplained(costs: SchemeCosts) -> Iterator[str]:
    """That the tensors, each alone, do not make up for the loss of the whole; nothing where they do."""
    if not costs.tensors or costs.explained:
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


def _row(facts: Facts, costs: SchemeCosts, cost: TensorCost) -> TensorRow:
    node = _node(facts, cost)
    return TensorRow(
        tensor=local_name(cost.tensor, node.graph) if node is not None else cost.tensor,
        kind=cost.kind,
        node=node.name if node is not None else "",
        op_type=node.op_type if node is not None else "",
        sqnr_db=cost.sqnr_db,
        share=costs.share(cost),
    )


def _node(facts: Facts, cost: TensorCost) -> Node | None:
    """The operator that has the weight, or that the activation is the result of; None for an input of the model."""
    layer = facts.layer_by_output.get(cost.tensor)
    if layer is not None and (cost.kind is Subject.WEIGHT or facts.stored_tensor(layer) == cost.tensor):
        return layer.node
    return facts.model.producer(cost.tensor)
