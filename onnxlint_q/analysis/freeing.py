"""Which nodes to exclude from quantisation so that a tensor keeps its float values.

A tensor has a scale because the node that makes it asks for one, or any node that reads it does. All of them have to be
excluded, and those that ask for a scale of the same values elsewhere: behind what only moves them. Where a Relu or Clip
is absorbed, it is the layer before it that asks.

A weight stays in float where every layer that reads it does, and where its input or its result does too: the weight of
a convolution or a Gemm between two scales is quantised by ONNX Runtime when it loads the file, excluded or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.placement import Placement, Placer, becomes_gemm, float_weights, stored_tensor
from onnxlint_q.graph import Model, Node

# What ONNX Runtime calls the Gemm that it makes of a MatMul and the Add of its bias.
_FUSED = "/MatMulAddFusion"


@dataclass(frozen=True, slots=True)
class Freeing:
    """What has to stay in float.

    Attributes:
        nodes: to be excluded, in data order; empty where nothing has to be.
        unnamed: those of them without a name, which no list can hold. Where there are any, the tensor cannot be freed,
            and `nodes` holds what was found up to them.
    """

    nodes: tuple[Node, ...]
    unnamed: tuple[Node, ...] = ()


@dataclass(frozen=True, eq=False)
class Freer:
    """Answers for one network.

    Attributes:
        model: the graph.
        layers: its layers with what folds into them.
        layers_only: nothing else is quantised.
    """

    model: Model
    layers: Sequence[FoldedLayer]
    layers_only: bool = False

    def weight(self, layer: str) -> Freeing:
        """The smallest set of nodes that keeps the weight of a layer, given by its key, in float."""
        origin = self._origin[layer]
        readers = [folded for folded in self.layers if self._origin[folded.output] == origin]
        alone = _freeing(folded.layer.node for folded in readers)
        names = {node.name for node in alone.nodes}
        if alone.unnamed or layer in float_weights(self.model, self.layers, names, layers_only=self.layers_only):
            return alone
        return _freeing((*alone.nodes, *(node for folded in readers for node in self._result(folded.output).nodes)))

    def activation(self, tensor: str) -> Freeing:
        """The smallest set of nodes that keeps an activation in float, and its values wherever they are moved to.

        In front of a Relu or Clip that is absorbed, which is what gets the scale, it is that of the result behind it.
        """
        rounded = tensor if tensor in self._places else stored_tensor(self.model, tensor)
        values = set(self._values_of(rounded))
        found: dict[Node, None] = {}
        places = self._places
        while fresh := _why(places[key] for key in values if key in places):
            found |= dict.fromkeys(fresh)
            if not all(node.name for node in found):
                break
            excluded = {node.name for node in found}
            places = self._placer.place(excluded, only=values)
        return _freeing(found)

    def layer(self, layer: str) -> Freeing:
        """The smallest set of nodes that keeps both the weight and the result of a layer in float."""
        return _freeing((*self.weight(layer).nodes, *self._result(layer).nodes))

    def listed(self, freeing: Freeing) -> tuple[str, ...]:
        """The list that excludes what a freeing needs; empty if one of its nodes has no name to say it with."""
        return () if freeing.unnamed else self.names(freeing.nodes)

    def names(self, nodes: Iterable[Node]) -> tuple[str, ...]:
        """The list that excludes these nodes, from the file as it is and after ONNX Runtime's pre-processing alike.

        That folds a BatchNormalization into the layer, which keeps its name, and makes one Gemm of a MatMul and the
        Add of its bias, which has another. A name that is in one of the files only changes nothing for the other.
        """
        return tuple(dict.fromkeys(name for node in nodes for name in self._names(node) if name))

    def _result(self, layer: str) -> Freeing:
        return self.activation(stored_tensor(self.model, layer))

    @cached_property
    def _placer(self) -> Placer:
        return Placer(self.model, self.layers, layers_only=self.layers_only)

    @cached_property
    def _places(self) -> Mapping[str, Placement]:
        return self._placer.place()

    @cached_property
    def _origin(self) -> Mapping[str, str]:
        return {folded.output: self.model.constants.origin(folded.layer.weight) for folded in self.layers}

    @cached_property
    def _by_node(self) -> Mapping[Node, FoldedLayer]:
        return {folded.layer.node: folded for folded in self.layers}

    def _values_of(self, tensor: str) -> Iterator[str]:
        """The tensor and those that hold its values, moved."""
        holding = {tensor}
        yield tensor
        for key, place in self._places.items():
            node = self.model.producer(key)
            if place.moved and node is not None and node.input(0) in holding:
                holding.add(key)
                yield key

    def _names(self, node: Node) -> Iterator[str]:
        yield node.name
        folded = self._by_node.get(node)
        if folded is None:
            return
        yield from (norm.node.name for norm in (folded.before, folded.after) if norm is not None)
        if folded.bias_add is not None:
            yield folded.bias_add.name
        if becomes_gemm(self.model, node):
            yield f"{node.name}{_FUSED}"


def _why(places: Iterable[Placement]) -> tuple[Node, ...]:
    """The nodes that ask for these scales; those that only give one where none is asked for.

    What gives a scale may do so for the one that is asked for, and stop with it.
    """
    found = tuple(places)
    asked = tuple(node for place in found for node in place.asked)
    return asked or tuple(node for place in found for node in place.given)


def _freeing(nodes: Iterable[Node]) -> Freeing:
    ordered = tuple(sorted(set(nodes), key=lambda node: node.order))
    return Freeing(ordered, tuple(node for node in ordered if not node.name))
