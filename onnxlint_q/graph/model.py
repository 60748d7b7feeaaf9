"""The read-only view of a model that everything else works on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from onnxlint_q.finding import Location
from onnxlint_q.graph.constants import Constants
from onnxlint_q.graph.names import ROOT, local_name
from onnxlint_q.graph.node import Node, TensorType, Value
from onnxlint_q.graph.tensors import Array

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["ROOT", "Model", "Node", "TensorType", "Value"]

DEFAULTS = 4
"""From this IR version on an initializer that is an input too is the default of that input."""


@dataclass(frozen=True, eq=False)
class Model:
    """One ONNX model: nodes, tensors and how they hang together.

    A tensor is named by a key: in the main graph its own name, in a subgraph the path of that graph, a slash, and
    its name.

    Attributes:
        path: where it was read from.
        name: what messages and reports call it: the path as it was typed, unless it was given without one.
        sha256: of the file's bytes.
        proto: the parsed message, local functions inlined, external data not loaded. Not to be changed.
        constants: values of tensors that do not depend on the inputs.
        nodes: all nodes, those of subgraphs included, in an order in which data flows.
        inputs, outputs: of the main graph; inputs with a default value are constants instead.
        flow: what data flows to from each `Node` and each tensor key.
        types: element type and shape of every tensor that shape inference found.
        inlined: how many local functions the file has.
    """

    path: Path
    name: str
    sha256: str
    proto: onnx.ModelProto = field(repr=False)
    constants: Constants = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    flow: Mapping[str | Node, tuple[str | Node, ...]] = field(repr=False)
    types: Mapping[str, TensorType] = field(repr=False)
    inlined: int = 0

    # -- the file ------------------------------------------------------------------------------------------------

    @cached_property
    def opsets(self) -> Mapping[str, int]:
        """Version of each imported operator domain; the default domain is the empty string."""
        versions: dict[str, int] = {}
        for entry in self.proto.opset_import:
            domain = "" if entry.domain == "ai.onnx" else entry.domain
            versions[domain] = max(entry.version, versions.get(domain, 0))
        return versions

    @property
    def opset(self) -> int:
        """Version of the default domain; 1 where the file names none, as the specification says."""
        return self.opsets.get("", 1)

    @cached_property
    def replaceable(self) -> frozenset[str]:
        """Initializers that are inputs as well, so that a caller may replace them; empty before IR version 4.

        They are constants here. ONNX Runtime leaves them as they are: it folds nothing into them.
        """
        listed = {value.name for value in self.proto.graph.input} if self.proto.ir_version >= DEFAULTS else set[str]()
        return frozenset(tensor.name for tensor in self.proto.graph.initializer if tensor.name in listed)

    @cached_property
    def graph(self) -> nx.DiGraph:
        """`flow` for the algorithms of networkx."""
        import networkx as nx  # noqa: PLC0415 - only who asks for its algorithms waits for it

        return nx.DiGraph({vertex: list(following) for vertex, following in self.flow.items()})

    def ancestors(self, vertex: str | Node) -> Set[str | Node]:
        """Everything that data flows from to a tensor or node."""
        import networkx as nx  # noqa: PLC0415 - only who asks for its algorithms waits for it

        found: Set[str | Node] = nx.ancestors(self.graph, vertex)
        return found

    def descendants(self, vertex: str | Node) -> Set[str | Node]:
        """Everything that data flows to from a tensor or node."""
        import networkx as nx  # noqa: PLC0415 - only who asks for its algorithms waits for it

        found: Set[str | Node] = nx.descendants(self.graph, vertex)
        return found

    # -- neighbours ----------------------------------------------------------------------------------------------

    def producer(self, tensor: str) -> Node | None:
        """The node that computes `tensor`; None for inputs, initializers and unknown names."""
        return self._producers.get(tensor)

    @cached_property
    def _producers(self) -> Mapping[str, Node]:
        made: dict[str, Node] = {}
        for vertex, following in self.flow.items():
            if isinstance(vertex, Node):
                for key in following:
                    assert isinstance(key, str)  # a node is followed by its results
                    made.setdefault(key, vertex)
        return made

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read `tensor`, in data order."""
        return self._readers.get(tensor, ())

    @cached_property
    def _readers(self) -> Mapping[str, tuple[Node, ...]]:
        read: dict[str, list[Node]] = {}
        for vertex, following in self.flow.items():
            if isinstance(vertex, str):
                readers = (one for one in following if isinstance(one, Node))
                read[vertex] = sorted(readers, key=lambda node: node.order)
        return {key: tuple(nodes) for key, nodes in read.items() if nodes}

    def sole_consumer(self, tensor: str) -> Node | None:
        """The one node that reads `tensor`, None if there are several or it is an output as well."""
        followed = self.flow.get(tensor, ())
        return (
            followed[0]
            if len(followed) == 1 and isinstance(followed[0], Node) and tensor not in self.output_names
            else None
        )

    @cached_property
    def output_names(self) -> frozenset[str]:
        """Names of the model's outputs."""
        return frozenset(value.name for value in self.outputs)

    # -- values and types ----------------------------------------------------------------------------------------

    def constant(self, tensor: str) -> Array | None:
        """The value of `tensor` where it does not depend on the inputs, else None. Not cached: drop it after use."""
        return self.constants.get(tensor)

    def is_constant(self, tensor: str) -> bool:
        """Whether `constant` would return a value; reads nothing."""
        return tensor in self.constants

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Its shape, None for an unknown dimension or an unknown rank."""
        known = self.types.get(tensor)
        return known.shape if known else None

    # -- for rules -------------------------------------------------------------------------------------------------

    def locate(self, node: Node, output: str | None = None) -> Location:
        """Where a finding about `node` is; `output` overrides its first output."""
        tensor = output if output is not None else node.output
        return Location(node.graph, node.name, node.qualified_type, local_name(tensor, node.graph))

    def nodes_of(self, *op_types: str) -> Iterator[Node]:
        """The nodes of the default domain with one of these operators."""
        return (node for node in self.nodes if node.op_type in op_types and node.is_standard)
