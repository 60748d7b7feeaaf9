"""The operators around a finding: what it reads from and what reads it, a few steps both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from onnxlint_q.graph import Model, Node
from onnxlint_q.workflow.pictures.values import Seen, Sight

STEPS = 3
"""How far is looked from the finding."""
MOST = 22
"""Operators that are drawn."""
FAN = 6
"""Readers of one tensor that are drawn."""


def sight_of(model: Model, node: Node) -> Sight:
    """The graph around a node, and all other nodes that lie on a way between two that are drawn."""
    chosen = _around(model, node)
    order = sorted(chosen, key=lambda one: one.order)
    places = {one: place for place, one in enumerate(order)}
    edges = sorted({(places[maker], places[one]) for one in order for maker in _makers(model, one) if maker in places})
    ranks = _ranks(len(order), edges)
    seen = tuple(_seen(model, one, ranks[places[one]], places, focus=one is node) for one in order)
    return Sight(seen, tuple(edges))


def _around(model: Model, node: Node) -> dict[Node, None]:
    """What leads to the node and what it leads to, the nearest first, then other ways from the one to the other.

    So the branch beside a residual or a gate is drawn, and the many readers of a mask or a position are not.
    """
    before = _reached(model, node, _makers, STEPS)
    after = _reached(model, node, _readers, STEPS)
    nearest = sorted((*before.items(), *after.items()), key=lambda entry: entry[1])
    chosen = {node: None, **{one: None for one, _ in nearest[: MOST - 1]}}
    beside = _all_reached(model, before, _readers) & _all_reached(model, after, _makers)
    for one in sorted(beside - set(chosen), key=lambda one: abs(one.order - node.order)):
        if len(chosen) < MOST:
            chosen[one] = None
    return chosen


Step = Callable[[Model, Node], Iterator[Node]]


def _reached(model: Model, node: Node, step: Step, most: int) -> dict[Node, int]:
    """What is reached in so many steps, with how many it took."""
    found: dict[Node, int] = {}
    front = [node]
    for distance in range(1, most + 1):
        front = [one for old in front for one in step(model, old) if found.setdefault(one, distance) == distance]
        front = list(dict.fromkeys(front))[:MOST]
    return found


def _all_reached(model: Model, nodes: Iterable[Node], step: Step) -> set[Node]:
    return {one for node in nodes for one in _reached(model, node, step, 2 * STEPS)}


def _makers(model: Model, node: Node) -> Iterator[Node]:
    found = (model.producer(key) for key in node.inputs if key and not model.is_constant(key))
    yield from dict.fromkeys(one for one in found if one is not None)


def _readers(model: Model, node: Node) -> Iterator[Node]:
    found = (reader for key in node.outputs if key for reader in model.consumers(key)[:FAN])
    yield from dict.fromkeys(found)


def _ranks(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """The longest way from a first node to each; nodes are in data order, so one pass does."""
    ranks = [0] * count
    for before, after in sorted(edges, key=lambda edge: edge[1]):
        ranks[after] = max(ranks[after], ranks[before] + 1)
    # A node that nothing drawn leads to stands right before the first of those that it leads to.
    fed = {after for _, after in edges}
    for node in range(count):
        leads_to = [ranks[end] for start, end in edges if start == node]
        if node not in fed and leads_to:
            ranks[node] = min(leads_to) - 1
    return ranks


def _seen(model: Model, node: Node, rank: int, places: dict[Node, int], *, focus: bool) -> Seen:
    known = model.types.get(node.output)
    shapes = (model.shape(key) for key in node.inputs if key and model.is_constant(key))
    before, after = tuple(_makers(model, node)), tuple(_readers(model, node))
    return Seen(
        node.qualified_type,
        node.name,
        node.output,
        _text(known.shape) if known is not None and known.shape is not None else "",
        tuple(_text(shape) for shape in shapes if shape),
        rank,
        focus,
        sum(one not in places for one in before),
        sum(one not in places for one in after),
    )


def _text(shape: Iterable[int | None]) -> str:
    return "×".join("?" if one is None else str(one) for one in shape)
