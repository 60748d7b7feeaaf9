"""A graph cut into pieces, one for each of some goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import onnx
from onnx import helper

from onnxlint_q.execute.executable import Array, Executable, part
from onnxlint_q.graph.names import names_read


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What has to be computed for a goal that was not for those before it.

    Attributes:
        nodes: in data order.
        inputs: tensors that it reads and that were computed before, or are inputs of the network.
        outputs: what it computes of the goal and of what later pieces read.
        kept: the goal, and what later pieces read of all that there is after it.
    """

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kept: frozenset[str]

    def executable(self, whole: Executable, values: Mapping[str, Array]) -> Executable:
        """The piece as a model whose inputs have the types of these values."""
        inputs = (_typed(name, values[name]) for name in self.inputs)
        return part(whole, self.nodes, inputs, map(helper.make_empty_tensor_value_info, self.outputs))


def pieces(graph: onnx.GraphProto, goals: Sequence[str]) -> tuple[Piece, ...]:
    """The pieces for tensors of a main graph, which come in an order in which they can be computed.

    A node that does not depend on the inputs of the graph is in each piece that reads what it makes.
    """
    reads = [frozenset(names_read(node)) for node in graph.node]
    maker = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    order = _order(reads, maker)
    fed = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    for number in order:
        if not fed.isdisjoint(reads[number]):
            fed.update(filter(None, graph.node[number].output))
    place = {number: position for position, number in enumerate(order)}
    done = set[int]()
    cut = list[tuple[str, list[int]]]()
    for goal in goals:
        missing = _missing(goal, reads, maker, done)
        done |= {number for number in missing if not fed.isdisjoint(graph.node[number].output)}
        cut.append((goal, sorted(missing, key=place.__getitem__)))
    found = list[Piece]()
    later = set[str]()
    for goal, numbers in reversed(cut):
        nodes = tuple(graph.node[number] for number in numbers)
        made = {name for node in nodes for name in node.output}
        read = {name for number in numbers for name in reads[number]} & fed - made
        outputs = fed & made & (later | {goal})
        found.append(Piece(nodes, tuple(sorted(read)), tuple(sorted(outputs)), frozenset(later | {goal})))
        later = (later - made) | read | ({goal} - made)
    return tuple(reversed(found))


def _missing(goal: str, reads: Sequence[frozenset[str]], maker: Mapping[str, int], done: set[int]) -> set[int]:
    """The nodes that have to run for a goal, but for those that are done."""
    found, waiting = set[int](), [goal]
    while waiting:
        number = maker.get(waiting.pop())
        if number is not None and number not in found and number not in done:
            found.add(number)
            waiting.extend(reads[number])
    return found


def _order(reads: Sequence[Iterable[str]], maker: Mapping[str, int]) -> list[int]:
    """The nodes in data order, that of the file where it is one."""
    flow = nx.DiGraph()
    flow.add_nodes_from(range(len(reads)))
    flow.add_edges_from((maker[name], number) for number, names in enumerate(reads) for name in names if name in maker)
    return list(nx.lexicographical_topological_sort(flow))


def _typed(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
