"""The part of a variant that is not in the network that it is a variant of: what stands before is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.execute.executable import Executable, part
from onnxlint_q.graph import TensorType
from onnxlint_q.graph.names import names_read

Array = npt.NDArray[Any]
_T = onnx.TensorProto
# What a run gives out as it computes with it. Between nodes without kernels for float16 the CPU keeps float32.
_FEEDABLE = frozenset({_T.FLOAT, _T.DOUBLE, _T.INT64, _T.INT32, _T.INT8, _T.UINT8, _T.BOOL})
# A tail that is longer than that saves too little to read out what it starts from.
_LONGEST = 0.9


@dataclass(frozen=True, eq=False)
class Tail:
    """A graph that starts from values of another one.

    Attributes:
        executable: computes those outputs that differ.
        inputs: that it reads, among them tensors within the other graph.
        starts: these tensors.
        outputs: of the whole graph, by name; those that differ come from this one, in their order.
        made: the names of those.
    """

    executable: Executable
    inputs: tuple[str, ...]
    starts: tuple[str, ...]
    outputs: tuple[str, ...]
    made: frozenset[str]

    def completed(self, found: Iterable[Array], given: Mapping[str, Array]) -> list[Array]:
        """All outputs of the whole graph, from what this one computed and from values of the other."""
        own = iter(found)
        return [next(own) if name in self.made else given[name] for name in self.outputs]


def tail_of(exact: Executable, variant: Executable, types: Mapping[str, TensorType]) -> Tail | None:
    """What of a variant is to be computed once the values of the network are there.

    None where that is nearly all of it, or reaches no output, where a value in between cannot be fed, and at another
    opset or with other inputs.

    Args:
        exact: the network.
        variant: a graph with the same inputs and outputs.
        types: of the tensors of the network.
    """
    if not _same_around(exact.proto, variant.proto):
        return None  # the same node may compute something else
    graph = variant.proto.graph
    nodes = _changed(exact, variant)
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    if not 0 < len(nodes) <= _LONGEST * len(graph.node):
        return None
    made = {name for node in nodes for name in node.output if name}
    if made.isdisjoint(value.name for value in graph.output):
        return None
    read = dict.fromkeys(name for node in nodes for name in names_read(node) if name not in made)
    stored = {tensor.name for tensor in graph.initializer} | {held.values.name for held in graph.sparse_initializer}
    given = [value for value in graph.input if value.name in read and value.name not in stored]
    computed = {name for node in graph.node for name in node.output}
    starts = tuple(name for name in read if name in computed and name not in constants and name not in stored)
    if any(name not in types or types[name].elem_type not in _FEEDABLE for name in starts):
        return None
    inputs = [*given, *(helper.make_tensor_value_info(name, types[name].elem_type, None) for name in starts)]
    kept = [node for name, node in constants.items() if name in read]
    outputs = [value for value in graph.output if value.name in made]
    return Tail(
        part(variant, [*kept, *nodes], inputs, outputs),
        tuple(value.name for value in inputs),
        starts,
        tuple(value.name for value in graph.output),
        frozenset(value.name for value in outputs),
    )


def _same_around(exact: onnx.ModelProto, variant: onnx.ModelProto) -> bool:
    """Whether inputs, operator sets and functions are the same, but for operator sets that come on top."""
    before, after = ({one.domain: one.version for one in proto.opset_import} for proto in (exact, variant))
    held = ([one.SerializeToString() for one in (*proto.graph.input, *proto.functions)] for proto in (exact, variant))
    return before.items() <= after.items() and next(held) == next(held)


def _changed(exact: Executable, variant: Executable) -> list[onnx.NodeProto]:
    """The nodes that compute something else than in the network, in the order of the graph, which may be any."""
    changed = _other_values(exact, variant)
    known = {tuple(node.output): node.SerializeToString() for node in exact.proto.graph.node}
    nodes = list(variant.proto.graph.node)
    reads = [frozenset(names_read(node)) for node in nodes]
    found = {place for place, node in enumerate(nodes) if known.get(tuple(node.output)) != node.SerializeToString()}
    changed.update(name for place in found for name in nodes[place].output if name)
    before = -1
    while len(found) > before:
        before = len(found)
        for place, read in enumerate(reads):
            if place not in found and not changed.isdisjoint(read):
                found.add(place)
                changed.update(filter(None, nodes[place].output))
    return [nodes[place] for place in sorted(found)]


def _other_values(exact: Executable, variant: Executable) -> set[str]:
    """Initializers of the variant that the network does not have, or has with other values."""
    before = {tensor.name: tensor for tensor in exact.proto.graph.initializer}
    sparse = {held.values.name: held.SerializeToString() for held in exact.proto.graph.sparse_initializer}
    other = {
        held.values.name
        for held in variant.proto.graph.sparse_initializer
        if sparse.get(held.values.name) != held.SerializeToString()
    }
    return other | {
        tensor.name
        for tensor in variant.proto.graph.initializer
        if tensor.name not in before
        or variant.weights.get(tensor.name) is not exact.weights.get(tensor.name)
        or tensor.SerializeToString() != before[tensor.name].SerializeToString()
    }
