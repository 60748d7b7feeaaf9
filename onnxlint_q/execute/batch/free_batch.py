"""The model for any number of samples at once, where that is known to be the same as one sample after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxlint_q.execute.batch.batch_rules import closed, keep_apart
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, Tensors
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.executable import Executable
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import ROOT


def free_batch(model: Model, executable: Executable, watched: Sequence[str]) -> Executable:
    """The same graph with a batch of any size; samples have a batch of one.

    Args:
        model: the model that `executable` was made of.
        executable: the graph.
        watched: tensors that are to have the batch as their axis 0.

    Raises:
        MixesBatchError: an operator is not known to keep the elements of a batch apart, an input has another batch
            than one, or a tensor that is watched has the batch elsewhere.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    tensors = Tensors(model, proto)
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if not tensors.has_batch(value.name):
            raise MixesBatchError(f"the batch of {value.name!r} is not one")
        dims[0].Clear()
    known = {node.outputs[0]: node for node in model.nodes if node.graph == ROOT and node.outputs}
    depends = {value.name for value in proto.graph.input}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        nodes.append(node)
        read = [name for name in node.input if name and not tensors.is_constant(name)]
        if not depends.isdisjoint(read):
            if not depends.issuperset(read):
                raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} reads what no input decides")
            depends.update(node.output)
            keep_apart(tensors, node, known.get(node.output[0]), -1)
            nodes += closed(tensors, node, -1)
        elif any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} has a subgraph")
    for name in watched:
        if name in tensors.front or name not in depends or not tensors.has_batch(name):
            raise MixesBatchError(f"{name!r} does not have the batch in front")
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(tensors.added)
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    return replace(executable, proto=proto)


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive samples that run together.

    Attributes:
        first: number of the first one.
        samples: at least one; several have a batch of one each, and the same shapes.
    """

    first: int
    samples: Sequence[Sample]

    @property
    def is_of_ones(self) -> bool:
        """Whether every sample has a batch of one."""
        return all(array.shape[:1] == (1,) for array in self.samples[0].values())

    def together(self) -> Sample:
        """All of them as one."""
        if len(self.samples) == 1:
            return self.samples[0]
        return {name: np.concatenate([sample[name] for sample in self.samples]) for name in self.samples[0]}


def batches(samples: Iterable[Sample], most: int, values: int) -> Iterator[Batch]:
    """Consecutive samples together, as many as go.

    Args:
        samples: one after the other.
        most: samples of a batch.
        values: that one sample may hold where there are so many; of larger ones there are fewer.
    """
    first, waiting = 0, list[Sample]()
    for number, sample in enumerate(samples):
        if waiting and not _fit(waiting[0], sample):
            yield Batch(first, waiting)
            first, waiting = number, []
        waiting.append(sample)
        held = len(waiting) * sum(array.size for array in sample.values())
        if len(waiting) >= most or held >= most * values:
            yield Batch(first, waiting)
            first, waiting = number + 1, []
    if waiting:
        yield Batch(first, waiting)


def _fit(one: Sample, other: Sample) -> bool:
    """Whether two samples can run together."""
    return all(a.shape == other[name].shape and a.shape[:1] == (1,) for name, a in one.items())
