"""Walks along and against the data, through operators with given traits.

A walk visits each tensor once, so that it ends on any graph and takes time in proportion to what it visits; and it
visits at most `REACH` of them, so that it may be asked of every tensor of a graph in linear time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import Channels, Trait

REACH = 64
"""Tensors that a walk visits at most. What operators do to values between two layers takes far fewer."""

Through = Trait | Callable[[Node], Iterable[str]]
"""Operators with any of these traits, from input to result; or which tensors a walk goes on to through a node."""


Wanted = str | Trait | Callable[[Node], bool]
"""Nodes to look for: of this operator of the default domain, with any of these traits, or of which this is true."""

MOVED = Trait.MOVES | Trait.COPIES
"""Behind these operators the values are the same, at most in another place."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a walk visited, by tensor key.

    Attributes:
        tensors: where it began and all that it came to, the nearest first.
        ends: those behind which it did not go on, for whatever reason.
    """

    tensors: tuple[str, ...]
    ends: tuple[str, ...]


def trace_back(model: Model, tensor: str, through: Through, until: Container[str] = ()) -> Trace:
    """Where the values of `tensor` come from: from the results of operators to their data inputs.

    Args:
        model: the graph.
        tensor: where to begin.
        through: what to go through.
        until: tensors not to go beyond.
    """

    def before(key: str) -> Iterable[str]:
        node = model.producer(key)
        if node is None:
            return ()
        if not isinstance(through, Trait):
            return through(node)
        operator = node.operator
        moved = operator.has(through) and key in operator.results_of(node.outputs)
        return operator.data_of(node.inputs) if moved else ()

    return _walk(tensor, before, until)


def trace_forward(
    model: Model, tensor: str, through: Through, until: Container[str] = (), *, alone: bool = False
) -> Trace:
    """Where the values of `tensor` go to: from the data inputs of operators to their results.

    Args:
        model: the graph.
        tensor: where to begin.
        through: what to go through.
        until: tensors not to go beyond.
        alone: stop where a tensor has several readers or is an output of the model as well.
    """

    def behind(key: str) -> Iterable[str]:
        sole = model.sole_consumer(key) if alone else None
        readers = model.consumers(key) if not alone else () if sole is None else (sole,)
        for node in readers:
            if not isinstance(through, Trait):
                yield from through(node)
            elif node.operator.has(through) and key in node.operator.data_of(node.inputs):
                yield from node.operator.results_of(node.outputs)

    return _walk(tensor, behind, until)


def followed_by(model: Model, tensor: str, wanted: Wanted, through: Through = MOVED) -> Iterator[Node]:
    """The nodes wanted that read `tensor`, directly or behind what moves its values, the nearest first.

    Args:
        model: the graph.
        tensor: where to begin.
        wanted: what to look for.
        through: what may stand between.
    """
    readers = (node for key in trace_forward(model, tensor, through).tensors for node in model.consumers(key))
    return _chosen(readers, wanted)


def preceded_by(model: Model, tensor: str, wanted: Wanted, through: Through = MOVED) -> Iterator[Node]:
    """The nodes wanted that compute `tensor`, directly or in front of what moves its values, the nearest first.

    Args:
        model: the graph.
        tensor: where to begin.
        wanted: what to look for.
        through: what may stand between.
    """
    makers = (model.producer(key) for key in trace_back(model, tensor, through).tensors)
    return _chosen((node for node in makers if node is not None), wanted)


def channel_axis(model: Model, tensor: str) -> int | None:
    """The axis of a tensor's channels, from the operators before it; None if it has none or its rank is unknown.

    Convolutions, poolings and normalisations have them on axis 1, matrix products last; value by value they stay.
    """
    shape = model.shape(tensor)
    if shape is None or len(shape) < 2:
        return None
    last, node = len(shape) - 1, model.producer(tensor)
    for _ in range(REACH - 1):
        if node is None or node.operator.channels is not Channels.AS_INPUT:
            break
        alike = next((key for key in node.inputs if key and model.shape(key) == shape), None)
        if alike is None:
            break
        node = model.producer(alike)
    channels = node.operator.channels if node is not None else Channels.AS_INPUT
    if channels is Channels.AS_INPUT:
        return last if last == 2 else 1
    return last if channels is Channels.LAST else 1


def _chosen(nodes: Iterable[Node], wanted: Wanted) -> Iterator[Node]:
    """Each of the nodes that is wanted, once."""
    if isinstance(wanted, str):
        return (node for node in dict.fromkeys(nodes) if node.is_standard and node.op_type == wanted)
    if isinstance(wanted, Trait):
        return (node for node in dict.fromkeys(nodes) if node.operator.has(wanted))
    return (node for node in dict.fromkeys(nodes) if wanted(node))


def _walk(start: str, step: Callable[[str], Iterable[str]], until: Container[str]) -> Trace:
    visited, ends = {start: None}, list[str]()
    waiting = deque([start])
    while waiting:
        key = waiting.popleft()
        found = () if key in until else tuple(step(key))
        fresh = [other for other in dict.fromkeys(found) if other not in visited]
        if not found or len(visited) + len(fresh) > REACH:
            ends.append(key)
            continue
        visited.update(dict.fromkeys(fresh))
        waiting.extend(fresh)
    return Trace(tuple(visited), tuple(ends))
