"""A copy of a model's message that is being changed: nodes and constants by their keys, names that are free."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.build import rebuilt
from onnxlint_q.graph.model import DEFAULTS
from onnxlint_q.graph.names import ROOT, local_name, tensor_key, walk_graphs
from onnxlint_q.graph.tensors import Array


class Edit:
    """Changes of one model, made on a copy.

    A constant that changes for one reader becomes an initializer of its own: others may read the old one. What nothing
    reads any more is left out at the end.

    Args:
        model: stays as it is.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(model.proto)
        self._graphs = dict(walk_graphs(self._proto.graph))
        self._nodes = self._by_output()
        self._taken = {name for graph in self._graphs.values() for name in _defined(graph)}
        self._left: set[str] = set()

    def _by_output(self) -> dict[str, tuple[str, onnx.NodeProto]]:
        """The path of its graph and the node, by the key of each result."""
        return {
            tensor_key(name, path): (path, node)
            for path, graph in self._graphs.items()
            for node in graph.node
            for name in node.output
            if name
        }

    def node(self, output: str) -> onnx.NodeProto:
        """The node that makes the tensor with this key; to be changed in place."""
        _, node = self._nodes[output]
        return node

    def constant(self, value: npt.NDArray[Any], like: str) -> str:
        """A new initializer of the main graph, which every subgraph can read; its name, made from `like`."""
        name = self.free_name(like)
        self._proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def replace_constant(self, output: str, slot: int, value: npt.NDArray[Any], why: str) -> None:
        """Give one reader another value: in the element type of the old one, or in its own where there was none.

        Args:
            output: key of a result of the reader.
            slot: of its inputs.
            value: the new one.
            why: ending of the new initializer's name.
        """
        path, node = self._nodes[output]
        node.input.extend([""] * (slot + 1 - len(node.input)))
        old = node.input[slot]
        stored: Array | None = self.model.constant(self.model_key(path, old)) if old else None
        made = value if stored is None else value.astype(stored.dtype)
        self.read(output, slot, self.constant(made, f"{old or output.rpartition('/')[2]}_{why}"))

    def read(self, output: str, slot: int, name: str) -> None:
        """Let the node that makes the tensor with this key read another tensor at one of its inputs."""
        node = self.node(output)
        self.leave(node.input[slot])
        node.input[slot] = name

    def model_key(self, path: str, name: str) -> str:
        """The key of a tensor that a graph names, wherever it is defined."""
        while path != ROOT and tensor_key(name, path) not in self.model.graph:
            path = path.rpartition("/")[0]
        return tensor_key(name, path)

    def replace_output(self, name: str, values: Iterable[onnx.ValueInfoProto], nodes: Iterable[onnx.NodeProto]) -> None:
        """Put other outputs in the place of one, and nodes that make them at the end; what nothing reads now goes."""
        graph = self._proto.graph
        outputs = [one for value in graph.output for one in (values if value.name == name else (value,))]
        made = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in outputs]
        del graph.output[:]
        graph.output.extend(made)
        graph.node.extend(nodes)
        self.leave(name)
        self._nodes = self._by_output()

    def unlist(self, names: Iterable[str]) -> None:
        """Take initializers off the list of inputs: no caller can give another value any more."""
        gone = set(names)
        _drop(self._proto.graph.input, lambda value: value.name in gone)

    def leave(self, name: str) -> None:
        """Say that a reader of this tensor is gone."""
        self._left.add(name)

    def insert_after(self, output: str, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes behind the one that makes a tensor."""
        path, node = self._nodes[output]
        graph = self._graphs[path]
        place = next(number for number, other in enumerate(graph.node) if other is node or other == node) + 1
        rest = [onnx.NodeProto.FromString(other.SerializeToString()) for other in graph.node[place:]]
        del graph.node[place:]
        made = list(nodes)
        graph.node.extend([*made, *rest])
        self._taken.update(name for one in made for name in one.output)
        self._nodes = self._by_output()

    def remove(self, output: str) -> None:
        """Take away the node that makes a tensor, which nothing is to read any more."""
        _, node = self._nodes.pop(output)
        self._left.update(node.input)
        node.Clear()  # the place of the others stays what it is until the end

    def take_over(self, output: str, result: str) -> None:
        """Let the node that makes `result` make `output` in its place; the one that made that goes, and `result` too.

        Both stand in one graph, and nothing else reads `result`.
        """
        self.remove(output)
        path, node = self._nodes.pop(result)
        node.output[list(node.output).index(local_name(result, path))] = local_name(output, path)
        self._nodes[output] = path, node

    def free_name(self, like: str) -> str:
        """A name that no tensor has; it is taken from now on."""
        name = next(name for number in itertools.count() if (name := f"{like}{number}") not in self._taken)
        self._taken.add(name)
        return name

    def local(self, key: str) -> str:
        """The name of a tensor inside the graph where its node stands."""
        return local_name(key, self._nodes[key][0]) if key in self._nodes else key

    def done(self) -> Model:
        """The changed model.

        Raises:
            ModelError: what was made is no graph.
        """
        for graph in self._graphs.values():
            _drop(graph.node, lambda node: not node.op_type)
        if self._proto.ir_version < DEFAULTS:
            # There every initializer is on that list, and a constant all the same.
            self._proto.ir_version = DEFAULTS
            self.unlist(value.name for value in self._proto.graph.initializer)
        self._prune()
        for graph in self._graphs.values():
            _forget_undefined(graph)
        return rebuilt(self.model, self._proto)

    def _prune(self) -> None:
        """Take away nodes and initializers of the main graph that nothing reads any more, and what they alone read."""
        graph = self._proto.graph
        reads = Counter(name for inner in self._graphs.values() for node in inner.node for name in node.input)
        reads.update(value.name for inner in self._graphs.values() for value in (*inner.input, *inner.output))
        makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
        waiting, gone = list(self._left), set[int]()
        while waiting:
            number = makers.get(waiting.pop())
            made = graph.node[number].output if number is not None else ()
            if number is not None and number not in gone and not any(reads[name] for name in made if name):
                gone.add(number)
                read = graph.node[number].input
                reads.subtract(read)
                self._left.update(read)
                waiting.extend(read)
        for number in sorted(gone, reverse=True):
            del graph.node[number]
        _drop(graph.initializer, lambda value: value.name in self._left and not reads[value.name])


def _drop(entries: Any, is_gone: Callable[[Any], bool]) -> None:
    """Take entries out of a list of a message; the others stay the same messages."""
    for place in reversed([place for place, entry in enumerate(entries) if is_gone(entry)]):
        del entries[place]


def _forget_undefined(graph: onnx.GraphProto) -> None:
    """Take out what is stated about tensors that nothing makes any more."""
    made = set(_defined(graph))
    _drop(graph.value_info, lambda value: value.name not in made)


def _defined(graph: onnx.GraphProto) -> Iterable[str]:
    yield from (value.name for value in (*graph.input, *graph.initializer))
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output)
