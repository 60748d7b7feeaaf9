"""A network in float32, and the same with results rounded to float16 after every node.

ONNX Runtime's CPU has no float16 kernels for most operators and keeps float32 between them, so a converted file that
runs well there proves nothing. Here each float tensor is cast to float16 and back, and the graph is run as it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxlint_q.analysis.half.tensors import LARGEST
from onnxlint_q.execute.executable import PREFIX, Executable, as_stored
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import tensor_key, walk_graphs

Array = npt.NDArray[Any]
_T = onnx.TensorProto
_WIDE = f"{PREFIX}wide_"
# Attributes that name an element type.
_TYPES = frozenset({"to", "dtype", "output_dtype", "stash_type"})


def widened(model: Model) -> Executable:
    """The model as the file has it, with float32 in place of float16."""
    made = as_stored(model)
    for _, graph in walk_graphs(made.proto.graph):
        del graph.value_info[:]
        for tensor in graph.initializer:
            _widen(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == _T.FLOAT16:
                value.type.tensor_type.elem_type = _T.FLOAT
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            if attribute.name in _TYPES and attribute.i == _T.FLOAT16:
                attribute.i = _T.FLOAT
            if attribute.HasField("t"):
                _widen(attribute.t)
    weights = {name: _as_float(value) for name, value in made.weights.items()}
    return replace(made, weights=weights)


def widened_sample(sample: Mapping[str, Array]) -> dict[str, Array]:
    """The sample for a network in float32."""
    return {name: _as_float(value) for name, value in sample.items()}


def halved_sample(sample: Mapping[str, Array], halves: Collection[str]) -> dict[str, Array]:
    """The same with the inputs that are float16 rounded."""
    return {name: rounded(value) if name in halves else value for name, value in widened_sample(sample).items()}


def rounded(values: Array) -> Array:
    """Values after a trip through float16; what float16 cannot hold becomes infinite or 0."""
    if values.dtype != np.float32:
        return values
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float16).astype(np.float32)


def clamped(wide: Executable) -> Executable:
    """A widened network whose constants end where float16 does, as converters write them; infinity is left as it is."""
    proto = onnx.ModelProto()
    proto.CopyFrom(wide.proto)
    for _, graph in walk_graphs(proto.graph):
        attached = (attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t"))
        for tensor in (*graph.initializer, *attached):
            if tensor.data_type == _T.FLOAT and tensor.data_location != onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(numpy_helper.from_array(_clamped(numpy_helper.to_array(tensor)), tensor.name))
    return replace(wide, proto=proto, weights={name: _clamped(value) for name, value in wide.weights.items()})


def _clamped(values: Array) -> Array:
    if values.dtype != np.float32:
        return values
    return np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), values).astype(np.float32)


def halved(wide: Executable, model: Model, halves: Collection[str], kept: Collection[str] = ()) -> Executable:
    """A widened network with tensors rounded to float16 wherever they are made.

    Args:
        wide: the network in float32.
        model: it, as its file has it.
        halves: keys of the tensors that are rounded.
        kept: keys of the first results of nodes that stay in float32: among them nothing is rounded, and constants
            that they read are as the file has them.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(wide.proto)
    weights = dict(wide.weights)
    # Inner graphs first: paths hang on names that change here, and nodes are copied with the graphs in them.
    for path, graph in reversed(list(walk_graphs(proto.graph))):
        _Editor(model, graph, path, halves, kept, weights).edit()
    return replace(wide, proto=proto, weights=weights)


class _Editor:
    """Rounds the tensors of one graph."""

    def __init__(
        self,
        model: Model,
        graph: onnx.GraphProto,
        path: str,
        halves: Collection[str],
        kept: Collection[str],
        weights: dict[str, Array],
    ) -> None:
        self.model, self.graph, self.path = model, graph, path
        self.halves, self.kept, self.weights = halves, kept, weights

    def edit(self) -> None:
        wide = self._initializers()
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            kept = any(self._key(name) in self.kept for name in node.output[:1])
            if kept:
                node.input[:] = [wide.get(name, name) for name in node.input]
            casts: list[onnx.NodeProto] = []
            for place, name in enumerate(node.output):
                if name and self._key(name) in self.halves:
                    node.output[place] = own = f"{_WIDE}{name}"
                    casts += _round_trip(own, name)
                    if kept or self.model.is_constant(self._key(name)):
                        wide[name] = own
            nodes += [onnx.NodeProto.FromString(node.SerializeToString()), *casts]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _key(self, name: str) -> str:
        return tensor_key(name, self.path)

    def _initializers(self) -> dict[str, str]:
        """Round them; by name what holds the value as it was, of those that nodes in float32 read."""
        readers = [node for node in self.graph.node if any(self._key(name) in self.kept for name in node.output[:1])]
        read = {name for node in readers for name in node.input}
        found: dict[str, str] = {}
        for tensor in list(self.graph.initializer):
            name = tensor.name
            if self._key(name) not in self.halves:
                continue
            if name in read:
                found[name] = f"{_WIDE}{name}"
                copy = self.graph.initializer.add()
                copy.CopyFrom(tensor)
                copy.name = found[name]
                if name in self.weights:
                    self.weights[copy.name] = self.weights[name]
            if name in self.weights:
                self.weights[name] = rounded(self.weights[name])
            else:
                tensor.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(tensor)), name))
        return found


def _round_trip(source: str, target: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    middle = f"{PREFIX}half_{target}"
    return (
        helper.make_node("Cast", [source], [middle], to=_T.FLOAT16),
        helper.make_node("Cast", [middle], [target], to=_T.FLOAT),
    )


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type != _T.FLOAT16:
        return
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        tensor.data_type = _T.FLOAT  # its value is handed to the session
    else:
        tensor.CopyFrom(numpy_helper.from_array(_as_float(numpy_helper.to_array(tensor)), tensor.name))


def _as_float(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values
