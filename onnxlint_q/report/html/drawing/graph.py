"""A small layered drawing of the graph around a finding, from top to bottom.

Sugiyama's way: layers by the longest path, a bend for each layer that an edge passes, order in a layer by the mean
place of what a node hangs on, swept down and up a few times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from onnxlint_q.report import words
from onnxlint_q.workflow.results import Seen, Sight

BOX, BEND, GAP = 156.0, 18.0, 26.0
"""Width of an operator, of an edge that passes, and of the room between two."""
TALL, STEP = 40.0, 66.0
"""Height of an operator, and of a layer."""
MARGIN, MORE = 10.0, 16.0
"""Room around everything, and on the right for numbers of hidden neighbours."""
SWEEPS = 8
LETTERS = 22
"""Of a line of a box."""


@dataclass(frozen=True, slots=True)
class Box:
    """One operator.

    Attributes:
        x, y: its upper left corner.
        style: CSS classes.
        first, second: its lines.
        title: all that is known of it.
        more: how many neighbours are not drawn, in words; empty for none.
    """

    x: float
    y: float
    style: str
    first: str
    second: str
    title: str
    more: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """The drawing, and its edges in words."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    edges: tuple[str, ...]
    box: float = BOX
    tall: float = TALL


def drawn(sight: Sight, flagged: Collection[str]) -> Drawn:
    """The drawing; `flagged` are names of nodes and tensors that a finding is about."""
    layers, chains = _layered(sight)
    _order(layers, chains)
    centres = _centres(layers, chains, len(sight.nodes))
    low = min(centre - BOX / 2 for node, centre in centres.items() if node < len(sight.nodes))
    high = max(centre + BOX / 2 for node, centre in centres.items() if node < len(sight.nodes))
    low, high = min(low, *centres.values()), max(high, *centres.values())
    shift = MARGIN - low
    rank = {node: place for place, layer in enumerate(layers) for node in layer}
    boxes = tuple(_box(node, centres[number] + shift, rank[number], flagged) for number, node in enumerate(sight.nodes))
    paths = tuple(_path([(centres[node] + shift, rank[node]) for node in chain]) for chain in chains)
    said = tuple(f"{_label(sight.nodes[start])} → {_label(sight.nodes[end])}" for start, end in sight.edges)
    return Drawn(high - low + 2 * MARGIN + MORE, len(layers) * STEP - (STEP - TALL) + 2 * MARGIN, boxes, paths, said)


def _layered(sight: Sight) -> tuple[list[list[int]], list[list[int]]]:
    """The nodes of each layer, and each edge as what it goes through: nodes, and bends with numbers of their own."""
    base = min((node.rank for node in sight.nodes), default=0)
    ranks = [node.rank - base for node in sight.nodes]
    layers: list[list[int]] = [[] for _ in range(max(ranks, default=0) + 1)]
    for number, rank in enumerate(ranks):
        layers[rank].append(number)
    chains, bend = [], len(sight.nodes)
    for start, end in sight.edges:
        chain = [start]
        for rank in range(ranks[start] + 1, ranks[end]):
            layers[rank].append(bend)
            chain.append(bend)
            bend += 1
        chains.append([*chain, end])
    return [layer for layer in layers if layer], chains


def _order(layers: Sequence[list[int]], chains: Sequence[Sequence[int]]) -> None:
    """Sort each layer so that few edges cross."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            before.setdefault(lower, []).append(upper)
            after.setdefault(upper, []).append(lower)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        linked: Mapping[int, list[int]] = before if down else after
        order = range(1, len(layers)) if down else range(len(layers) - 2, -1, -1)
        for number in order:
            fixed = {node: place for place, node in enumerate(layers[number - 1 if down else number + 1])}
            held = {node: place for place, node in enumerate(layers[number])}
            layers[number].sort(
                key=lambda node: _mean([fixed[one] for one in linked.get(node, ()) if one in fixed], held[node])
            )


def _mean(places: Sequence[int], instead: int) -> float:
    return sum(places) / len(places) if places else float(instead)


def _centres(layers: Sequence[Sequence[int]], chains: Sequence[Sequence[int]], nodes: int) -> dict[int, float]:
    """The middle of each node: where what it hangs on has its own, as far as its neighbours leave room."""
    linked: dict[int, list[int]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            linked.setdefault(upper, []).append(lower)
            linked.setdefault(lower, []).append(upper)
    centres = {node: place * (BOX + GAP) for layer in layers for place, node in enumerate(layer)}
    for sweep in range(2 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = [_middle([centres[one] for one in linked.get(node, ())], centres[node]) for node in layer]
            centres.update(zip(layer, _apart(wanted, [_width(node, nodes) for node in layer]), strict=True))
    return centres


def _middle(places: Sequence[float], instead: float) -> float:
    return sum(places) / len(places) if places else instead


def _width(node: int, nodes: int) -> float:
    return BOX if node < nodes else BEND


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Places as near to the wanted ones as boxes that do not meet can be, off by nothing on the whole."""
    placed: list[float] = []
    for place, width in zip(wanted, widths, strict=True):
        least = placed[-1] + (widths[len(placed) - 1] + width) / 2 + GAP if placed else place
        placed.append(max(place, least))
    shift = sum(want - have for want, have in zip(wanted, placed, strict=True)) / max(len(placed), 1)
    return [place + shift for place in placed]


def _box(node: Seen, centre: float, rank: int, flagged: Collection[str]) -> Box:
    style = "focus" if node.focus else "flagged-node" if {node.name, node.output} & set(flagged) - {""} else ""
    weight = next((shape for shape in node.constants if "×" in shape), "")
    second = f"{node.shape} · w {weight}" if weight else node.shape
    hidden = node.hidden_before + node.hidden_after
    title = f"{words.name(node.op_type, 40)} {words.name(node.name, 120)} → {words.name(node.output, 120)} {node.shape}"
    if node.constants:
        title += f"; constants {', '.join(node.constants)}"
    return Box(
        centre - BOX / 2,
        MARGIN + rank * STEP,
        style,
        words.name(node.op_type, 20),
        second if len(second) <= LETTERS else words.elide(node.shape, LETTERS),
        title,
        f"+{hidden}" if hidden else "",
    )


def _path(points: Sequence[tuple[float, int]]) -> str:
    """Curves from the lower edge of the first box through the bends to the upper edge of the last one."""
    (x, rank), *rest = points
    y = MARGIN + rank * STEP + TALL
    said = f"M{x:.1f} {y:.1f}"
    for number, (x2, rank2) in enumerate(rest, start=1):
        top = MARGIN + rank2 * STEP
        said += f"C{x:.1f} {y + 14:.1f} {x2:.1f} {top - 14:.1f} {x2:.1f} {top:.1f}"
        y = top
        if number < len(rest):  # straight through a layer
            y = top + TALL
            said += f"V{y:.1f}"
        x = x2
    return said


def _label(node: Seen) -> str:
    return f"{words.name(node.op_type, 30)} {words.name(node.name or node.output, 60)}"
