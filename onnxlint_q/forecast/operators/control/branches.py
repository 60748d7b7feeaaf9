"""If: one of two graphs, both of which are followed; what comes out is what the one that is taken makes.

Where nothing in the file decides which, each is an alternative: the figures of the whole are those of the first, and
what lies in the other has those of the second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from onnxlint_q.forecast.population import Samples
from onnxlint_q.forecast.step import Edge, Site, Step
from onnxlint_q.forecast.transfer import Adjoint
from onnxlint_q.forecast.unmodelled import UnmodelledError, bounded
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.settled import Settled

THEN, ELSE = "then_branch", "else_branch"


def is_if(node: Node) -> bool:
    """Whether a node is an If with both branches."""
    return node.op_type == "If" and node.is_standard and {THEN, ELSE} <= node.subgraphs.keys()


def walks(model: Model) -> Mapping[str, tuple[Node, ...]]:
    """Nodes that are gone through together, in data order, by the graph in which they begin.

    The main graph and each body of a Loop or Scan, with the branches of every If that lies there.
    """
    owner = {ROOT: ROOT}
    for node in reversed(model.nodes):  # what holds a graph stands behind the nodes of that graph
        for graph in node.subgraphs.values():
            owner[graph] = owner[node.graph] if is_if(node) else graph
    found: dict[str, list[Node]] = {}
    for node in model.nodes:
        found.setdefault(owner[node.graph], []).append(node)
    return {graph: tuple(nodes) for graph, nodes in found.items()}


class Branches:
    """Which branch each If takes, asked in data order."""

    def __init__(self, settled: Settled, either: str) -> None:
        """`settled` decides as far as it can, else it is `either`."""
        self._settled = settled
        self._either = either
        self._idle: set[str] = set()
        self._undecided: dict[Node, None] = {}

    def take(self, node: Node) -> str:
        """The name of the branch that an If takes."""
        decided = self._settled.branch(node)
        taken = decided or self._either
        self._idle.add(node.subgraphs[THEN if taken == ELSE else ELSE])
        if decided is None:
            self._undecided[node] = None
        return taken

    def leave(self, node: Node) -> bool:
        """Whether a node lies in a branch that is not taken; known once all are."""
        return _is_within(node.graph, self._idle)

    def open(self, graphs: Collection[str]) -> tuple[str, ...]:
        """Labels of each If of which nothing decides what it does.

        Where neither branch holds one of these graphs, those with layers, both do the same in other shapes.
        """
        found = (node for node in self._undecided if not self.leave(node))
        return tuple(
            node.label for node in found if any(_is_within(graph, (*node.subgraphs.values(),)) for graph in graphs)
        )


def _is_within(graph: str, others: Iterable[str]) -> bool:
    """Whether a graph is one of the others, or lies in one."""
    return any(graph == other or graph.startswith(f"{other}/") for other in others)


def if_rule(site: Site, taken: str) -> Step:
    """What the branch `taken` makes.

    Raises:
        UnmodelledError: nothing is known of it.
    """
    results = site.node.returns[taken]
    if len(results) != len(site.node.outputs):
        raise UnmodelledError("its branch does not fit its outputs")
    outputs = tuple(samples_of(site, key) for key in results)
    if not any(made.size for made in outputs):
        raise UnmodelledError("nothing is known of what its branch makes")
    same = Adjoint(lambda rows: rows)
    edges = tuple(Edge(key, same, n) for n, key in enumerate(results) if key in site.known)
    return Step(outputs, edges, site.shape(results[0]))


def samples_of(site: Site, key: str) -> Samples:
    """Of one tensor, constant or not; without elements where nothing is known."""
    samples = site.known.get(key)
    if samples is not None:
        return samples
    value = site.value(key)
    if value is None:
        return np.zeros((site.size, 0), np.float32)
    bounded(value.shape)
    return np.broadcast_to(value, (site.size, *value.shape))
