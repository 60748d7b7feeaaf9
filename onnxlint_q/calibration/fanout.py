"""Many variants of single layers in one run, each computed only from its own layer on.

The batch axis carries the variants. At the layer of variant `v` the float part of the batch is convolved with the
float weight and once more with the quantised one, and the second result joins the batch; from there on `v` travels
as one more element of it. A variant whose activation is quantised joins where the layer's result is rounded: that part
of the batch it starts from, the float one or that with its weight, is quantised and back. A layer late in the network
so costs little, nothing upstream of a layer is computed twice, and one session serves all layers.

Where branches meet, each is brought to the union of their variants; a branch that a variant did not touch gives its
float part. That needs every operator on the way to treat the elements of a batch alike, which is checked operator by
operator: a graph that mixes batch elements, or one that is not known not to, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.calibration.batch_rules import MixesBatchError, Tensors, closed, keep_apart
from onnxlint_q.calibration.executable import PREFIX, Executable, declare_external
from onnxlint_q.calibration.variants import ActivationScale, add_domain, round_trip, round_trip_constants
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
# Activations that ONNX Runtime fuses into a convolution.
_FUSED = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})


@dataclass(frozen=True, eq=False)
class Variant:
    """One layer with its weight, its result or both quantised.

    Attributes:
        layer: its key.
        weight: another weight in the layout of the executable's own; None for the float one.
        activation: how the tensor that holds the layer's result is rounded; None if it is not. With a weight as well
            there has to be a variant with the same array and no activation.
    """

    layer: str
    weight: Array | None = None
    activation: ActivationScale | None = None


@dataclass(frozen=True, eq=False)
class FanOut:
    """A model that computes the float result and all variants of it.

    Attributes:
        executable: takes one sample; outputs hold `1 + len(order)` blocks of it along axis 0.
        order: for each output, the variants in the order of their blocks, which follow the float block. A variant
            that an output does not depend on is not among them.
    """

    executable: Executable
    order: Mapping[str, tuple[str, ...]]


def fan_out(model: Model, executable: Executable, variants: Mapping[str, Variant]) -> FanOut:
    """Put variants of single layers into one graph.

    Args:
        model: the model that `executable` was folded from.
        executable: the folded float model, with a batch of one.
        variants: by a key of the caller's.

    Raises:
        MixesBatchError: an operator behind one of the layers does not keep batch elements apart, or a layer is not
            in the main graph.
    """
    return _Builder(model, executable, variants).build()


class _Builder:
    def __init__(self, model: Model, executable: Executable, variants: Mapping[str, Variant]) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(executable.proto)
        self.tensors = Tensors(model, self.proto)
        self.base = executable
        self.variants = variants
        self.by_weight = {executable.layer_weights[variant.layer]: variant.layer for variant in variants.values()}
        # By tensor the variants in which it is rounded.
        self.rounded: dict[str, list[str]] = {}
        for key, variant in variants.items():
            if variant.activation is not None:
                self.rounded.setdefault(variant.activation.tensor, []).append(key)
        self.graph = onnx.GraphProto()
        self.weights: dict[str, Array] = {}
        # The variants that a tensor carries; a tensor that is not named here carries none.
        self.carried: dict[str, tuple[str, ...]] = {}
        self.indices: dict[tuple[int, ...], str] = {}
        self.aligned: dict[tuple[str, tuple[str, ...]], str] = {}
        # An activation that nothing but a layer feeds stays with it, because ONNX Runtime computes the two in one.
        self.activated = _activated(self.proto.graph) - self.rounded.keys()
        # By such a tensor what would have joined it: variants, and the tensors of one element each.
        self.waiting: dict[str, dict[str, str]] = {}
        self.known = {node.outputs[0]: node for node in model.nodes if node.graph == ROOT and node.outputs}

    def build(self) -> FanOut:
        source = self.proto.graph
        add_domain(self.proto)
        for node in list(source.node):
            self._visit(node)
        joined = {variant for carried in self.carried.values() for variant in carried}
        if joined != self.variants.keys():
            raise MixesBatchError("a layer is not in the main graph")
        del source.node[:]
        source.node.extend(self.graph.node)
        source.initializer.extend([*self.graph.initializer, *self.tensors.added])
        for value in source.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        del source.value_info[:]
        executable = replace(self.base, proto=self.proto, weights={**self.base.weights, **self.weights})
        return FanOut(executable, {value.name: self.carried.get(value.name, ()) for value in source.output})

    def _visit(self, node: onnx.NodeProto) -> None:
        layer = next((self.by_weight[name] for name in node.input if name in self.by_weight), None)
        union = tuple(dict.fromkeys(v for name in node.input for v in self.carried.get(name, ())))
        if union:
            self._keep_apart(node, union)
        self.graph.node.append(node)
        placed = self.graph.node[-1]
        self.carried.update((name, union) for name in node.output if name and union)
        if layer is not None:
            self._join(placed, self._twins(placed, layer), union)
        elif node.input and node.input[0] in self.waiting:
            self._join(placed, self._activated_twins(placed), union)
        else:
            if node.output and node.output[0] in self.rounded:
                self._join(placed, {}, union)
            if union:
                self.graph.node.extend(closed(self.tensors, placed, 1 + len(union)))

    def _keep_apart(self, node: onnx.NodeProto, union: tuple[str, ...]) -> None:
        """Bring the inputs of `node` to the same batch, or refuse it."""
        keep_apart(self.tensors, node, self.known.get(node.output[0]), 1 + len(union))
        for position, name in enumerate(node.input):
            if name and not self._is_constant(name) and self._has_batch(name):
                node.input[position] = self._brought_to(name, union)

    def _twins(self, node: onnx.NodeProto, layer: str) -> dict[str, str]:
        """Compute `node` once more on the float part with each weight there is a variant for."""
        if self.tensors.shape(self.known[node.output[0]].outputs[0]) is None and node.op_type == "MatMul":
            raise MixesBatchError(f"the rank of MatMul {node.output[0]!r} is unknown")
        old = self.base.layer_weights[layer]
        made: dict[str, str] = {}
        for key, variant in self.variants.items():
            if variant.layer != layer or variant.weight is None or variant.activation is not None:
                continue
            twin = self._twin(node)
            weight = self._add_weight(variant.weight, self.base.weights[old].dtype)
            for position, name in enumerate(twin.input):
                if name == old:
                    twin.input[position] = weight
                elif self.carried.get(name):
                    twin.input[position] = self._gathered(name, (0,))
            self.graph.node.append(twin)
            made[key] = twin.output[0]
        return made

    def _add_weight(self, value: Array, dtype: np.dtype[Any]) -> str:
        name = f"{PREFIX}v{len(self.weights)}"
        array = np.asarray(value, dtype, order="C")
        self.graph.initializer.append(declare_external(name, helper.np_dtype_to_tensor_dtype(dtype), array.shape))
        self.weights[name] = array
        return name

    def _activated_twins(self, node: onnx.NodeProto) -> dict[str, str]:
        """The node behind a layer, once more on each twin that waits for it."""
        made: dict[str, str] = {}
        for key, waiting in self.waiting.pop(node.input[0]).items():
            twin = self._twin(node)
            twin.input[0] = waiting
            self.graph.node.append(twin)
            made[key] = twin.output[0]
        return made

    def _join(self, node: onnx.NodeProto, twins: Mapping[str, str], union: tuple[str, ...]) -> None:
        """Append to the result of `node` what `twins` hold, and what of it or of them is rounded; or let them wait."""
        result = node.output[0]
        ends = node.op_type in _FUSED  # the identity that a folded normalisation leaves is no end
        if result in self.activated and not ends:
            self.waiting[result] = dict(twins)
            return
        node.output[0] = f"{PREFIX}float{len(self.graph.node)}"
        self.carried[node.output[0]] = union
        appended = dict(twins)
        for entry, keys in self._by_number(result).items():
            sources = [self._source(node.output[0], key, twins) for key in keys]
            appended |= dict.fromkeys(keys, self._rounded(entry, sources))
        if not appended:
            node.output[0] = result
            return
        parts = [node.output[0], *dict.fromkeys(appended.values())]
        self.graph.node.append(helper.make_node("Concat", parts, [result], axis=0))
        self.carried[result] = (*union, *appended)

    def _by_number(self, tensor: str) -> dict[ActivationScale, list[str]]:
        """The variants that round a tensor, those with the same scale together."""
        found: dict[ActivationScale, list[str]] = {}
        for key in self.rounded.get(tensor, ()):
            scale = self.variants[key].activation
            assert scale is not None
            found.setdefault(scale, []).append(key)
        return found

    def _source(self, tensor: str, key: str, twins: Mapping[str, str]) -> str:
        """One element: the part of `tensor`, or of what joins it, that the variant `key` rounds."""
        weight = self.variants[key].weight
        if weight is None:
            return self._gathered(tensor, (0,))
        (own,) = (other for other, v in self.variants.items() if v.weight is weight and v.activation is None)
        if own in twins:
            return twins[own]
        return self._gathered(tensor, (1 + self.carried[tensor].index(own),))

    def _rounded(self, scale: ActivationScale, sources: Sequence[str]) -> str:
        """Elements one after the other, rounded."""
        number = len(self.graph.node)
        exact, result = f"{PREFIX}exact{number}", f"{PREFIX}rounded{number}"
        self.graph.node.append(helper.make_node("Concat", sources, [exact], axis=0))
        for name, value in round_trip_constants(number, scale).items():
            self.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        self.graph.node.extend(round_trip(self.graph, number, scale, exact, result))
        return result

    def _twin(self, node: onnx.NodeProto) -> onnx.NodeProto:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = ""
        twin.output[0] = f"{PREFIX}twin{len(self.graph.node)}"
        return twin

    def _brought_to(self, name: str, union: tuple[str, ...]) -> str:
        own = self.carried.get(name, ())
        if own == union:
            return name
        key = (name, union)
        if key not in self.aligned:
            places = {variant: block for block, variant in enumerate(own, start=1)}
            self.aligned[key] = self._gathered(name, (0, *(places.get(variant, 0) for variant in union)))
            self.carried[self.aligned[key]] = union
        return self.aligned[key]

    def _gathered(self, name: str, blocks: tuple[int, ...]) -> str:
        """A tensor made of blocks of `name` along the batch axis."""
        if blocks not in self.indices:
            self.indices[blocks] = f"{PREFIX}blocks{len(self.indices)}"
            index = np.asarray(blocks, np.int64)
            self.graph.initializer.append(onnx.numpy_helper.from_array(index, self.indices[blocks]))
        result = f"{PREFIX}gathered{len(self.graph.node)}"
        self.graph.node.append(helper.make_node("Gather", [name, self.indices[blocks]], [result], axis=0))
        return result

    def _is_constant(self, name: str) -> bool:
        return name in self.base.weights or self.tensors.is_constant(name)

    def _has_batch(self, name: str) -> bool:
        return bool(self.carried.get(name)) or self.tensors.has_batch(name)


def _activated(graph: onnx.GraphProto) -> frozenset[str]:
    """Tensors that one activation reads and nothing else, or the identity that a folded normalisation leaves."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return frozenset()
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    fixed = {tensor.name for tensor in graph.initializer}
    return frozenset(
        node.input[0]
        for node in graph.node
        if node.op_type in _FUSED | {"Identity"}
        and node.domain in {"", "ai.onnx"}
        and read[node.input[0]] == 1
        and fixed.issuperset(filter(None, node.input[1:]))
    )


def blocks(output: Array, order: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """An output of a FanOut as the float result and the result of each variant."""
    parts = np.split(output, 1 + len(order), axis=0)
    return parts[0], dict(zip(order, parts[1:], strict=True))
