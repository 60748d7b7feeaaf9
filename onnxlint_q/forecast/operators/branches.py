"""If: one of two graphs, both of which are followed; what comes out is what the one that is taken makes.

Where nothing in the file decides which, the first one is taken, and what lies in the other has the costs that it has
if that is taken.
"""

from __future__ import annotations

import numpy as np

from onnxlint_q.forecast.population import SIZE, Samples
from onnxlint_q.forecast.step import Edge, Site, Step
from onnxlint_q.forecast.transfer import Adjoint
from onnxlint_q.forecast.unmodelled import UnmodelledError, bounded
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

THEN, ELSE = "then_branch", "else_branch"


def is_if(node: Node) -> bool:
    """Whether a node is an If with both branches."""
    return node.op_type == "If" and node.is_standard and {THEN, ELSE} <= node.subgraphs.keys()


def entered(model: Model) -> frozenset[str]:
    """The main graph and every branch of an If that no Loop or Scan is around."""
    found = {ROOT}
    for node in reversed(model.nodes):  # an If stands behind what its branches hold
        if node.graph in found and is_if(node):
            found.update(node.subgraphs.values())
    return frozenset(found)


def if_rule(site: Site, taken: str | None) -> Step:
    """What the branch `taken` makes; None where nothing decides which is.

    Raises:
        UnmodelledError: nothing is known of what it makes.
    """
    node = site.node
    first = taken or THEN
    outputs = tuple(_samples(site, key) for key in node.returns[first])
    edges = _edges(site, first, outputs)
    if not any(made.size for made in outputs):
        raise UnmodelledError("nothing is known of what its branch makes")
    other = _edges(site, ELSE if first == THEN else THEN, outputs) if taken is None else ()
    return Step(outputs, edges, otherwise=other)


def _samples(site: Site, key: str) -> Samples:
    """Of one result of a branch; without elements where nothing is known."""
    samples = site.known.get(key)
    if samples is not None:
        return samples
    value = site.value(key)
    if value is None:
        return np.zeros((SIZE, 0), np.float32)
    bounded(value.shape)
    return np.broadcast_to(value, (SIZE, *value.shape))


def _edges(site: Site, branch: str, outputs: tuple[Samples, ...]) -> tuple[Edge, ...]:
    """From the results of a branch, as far as they have the shapes of the samples."""
    results = zip(site.node.returns[branch], outputs, strict=False)
    return tuple(
        Edge(key, Adjoint(lambda rows: rows), position)
        for position, (key, made) in enumerate(results)
        if key in site.known and site.known[key].shape == made.shape
    )
