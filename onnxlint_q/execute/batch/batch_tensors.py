"""What is known of the tensors of a graph whose batch is about to grow, and the check that it grew rightly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.execute.executable import PREFIX
from onnxlint_q.graph import Model, Node, TensorType
from onnxlint_q.graph.loading.shapes import infer_types
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.settled import Settled, is_known

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]
Shapes = Mapping[str, tuple[int, ...]]
"""Of the inputs of a graph, by name."""
# What the order of sums may change, relative to what there is.
_SAME = 1e-3
_INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})


class MixesBatchError(Exception):
    """The graph does not, or is not known to, treat the elements of a batch alike."""


def check_same(alone: Array, array: Array) -> None:
    """Raise MixesBatchError if an element of a batch is not, up to the order of sums, what it is alone."""
    if alone.shape != array.shape:
        raise MixesBatchError("a tensor has another shape in a batch")
    if np.issubdtype(alone.dtype, np.floating) and alone.size:
        power = float(np.square(alone, dtype=np.float64).sum())
        # Infinity less infinity would tell nothing.
        if np.isfinite(power) and not np.square(array.astype(np.float64) - alone).sum() <= _SAME**2 * power:
            raise MixesBatchError("a tensor has other values in a batch")


class Tensors:
    """What is known of the tensors of a graph whose batch is about to grow from one.

    Attributes:
        added: small initializers made on the way.
        front: tensors that carry the batch as an axis of its own in front of their axes.
    """

    def __init__(self, model: Model, proto: onnx.ModelProto, shapes: Shapes | None = None) -> None:
        """Compute integer tensors that only constants and shapes decide, and take their nodes out of `proto`.

        Inputs of `proto` get the shapes that are given; one whose first axis is open then gets a batch of one.

        Raises:
            MixesBatchError: the model uses names that are added here, or an input has no batch.
        """
        if not all(value.batched for value in model.inputs):
            raise MixesBatchError("samples have no batch")
        if any(name.startswith(PREFIX) for name in _names(model.proto.graph)):
            raise MixesBatchError(f"a name of the model starts with {PREFIX}")
        self.model = model
        self.added: list[onnx.TensorProto] = []
        self.front: set[str] = set()
        self.types = _closed(model, proto, shapes or {})
        self._made: dict[str, Array] = {}
        self._values = self._computed()
        # What is settled tells shapes that settle more.
        while self._settle(proto):
            self.types = infer_types(proto, model.constants)
            self._values = self._computed()

    def _computed(self) -> Mapping[str, Array]:
        """Values of tensors that constants and shapes alone decide."""
        settled = Settled(self.model, lambda key: None if (self.shape(key) or ())[:1] == (None,) else self.shape(key))
        for node in self.model.nodes:
            settled.add(node)
        return settled.values

    def _settle(self, proto: onnx.ModelProto) -> bool:
        """Put values in the place of the nodes that compute them, and say whether there were any."""
        settled: list[onnx.TensorProto] = []
        outputs = {value.name for value in proto.graph.output}
        known = {node.outputs[0]: node for node in self.model.nodes if node.graph == ROOT and len(node.outputs) == 1}
        kept = []
        for node in proto.graph.node:
            found = known.get(node.output[0]) if node.output and node.output[0] not in outputs else None
            value = self._settled(found) if found is not None else None
            if found is None or value is None:
                kept.append(node)
                continue
            self._made[found.outputs[0]] = value
            settled.append(onnx.numpy_helper.from_array(value, found.outputs[0]))
        if settled:
            del proto.graph.node[:]
            proto.graph.node.extend(kept)
            proto.graph.initializer.extend(settled)
        return bool(settled)

    def _settled(self, node: Node) -> Array | None:
        """Value of an integer tensor that is the same for every input of this shape, computed from integers alone."""
        own = self.types.get(node.outputs[0])
        if own is None or own.elem_type not in _INTEGERS or node.op_type == "Constant":
            return None
        if node.op_type != "Shape" and not all(self.is_constant(name) for name in node.inputs if name):
            return None
        value = self._values.get(node.outputs[0])
        dtype = onnx.helper.tensor_dtype_to_np_dtype(own.elem_type)
        return None if value is None or not is_known(value) else np.asarray(value, dtype, order="C")

    def shape(self, name: str) -> Shape | None:
        """Shape of a tensor with a batch of one, as far as it is known."""
        known = self.types.get(name)
        return known.shape if known else None

    def rank(self, name: str) -> int:
        """Rank of a tensor.

        Raises:
            MixesBatchError: it is unknown.
        """
        shape = self.shape(name)
        if shape is None:
            raise MixesBatchError(f"the shape of {name!r} is unknown")
        return len(shape)

    def has_batch(self, name: str) -> bool:
        """Whether axis 0 of a tensor that depends on the input is the batch; a scalar has none."""
        return self.rank(name) > 0 and (self.shape(name) or ())[0] == 1

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is the same for every sample."""
        return name in self._made or self.model.is_constant(name)

    def constant(self, name: str) -> Array | None:
        """Value of a constant input, None where it is none."""
        if not name:
            return None
        return self._made[name] if name in self._made else self.model.constant(name)

    def add_constant(self, value: Array) -> str:
        """A new small initializer."""
        name = f"{PREFIX}shape{len(self.added)}"
        self._made[name] = value
        self.added.append(onnx.numpy_helper.from_array(value, name))
        return name


def typed(model: Model, proto: onnx.ModelProto, shapes: Shapes) -> Mapping[str, TensorType]:
    """Types of the tensors of a graph of `model` where its inputs have these shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return _closed(model, copy, shapes)


def _closed(model: Model, proto: onnx.ModelProto, shapes: Shapes) -> Mapping[str, TensorType]:
    """Give open axes of the inputs of `proto` their lengths, a first one else 1; types of all tensors with that.

    An open first axis is the batch at an input only; of what is computed it may be any number.
    """
    closed = [_close(value, shapes.get(value.name, (1,))) for value in proto.graph.input]
    return infer_types(proto, model.constants) if any(closed) else model.types


def _close(value: onnx.ValueInfoProto, lengths: Sequence[int]) -> bool:
    """Give open axes these lengths, from the first one on, and say whether there were any."""
    axes = zip(value.type.tensor_type.shape.dim, lengths, strict=False)
    opened = [(dim, length) for dim, length in axes if not dim.HasField("dim_value") or dim.dim_value < 0]
    for dim, length in opened:
        dim.dim_value = length
    return bool(opened)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (name for node in graph.node for name in node.output)
