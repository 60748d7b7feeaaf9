"""Many weight variants in one run, each computed only from its own layer on.

The batch axis carries the variants. At the layer of variant `v` the float part of the batch is convolved with the
float weight and once more with the quantised one, and the second result joins the batch; from there on `v` travels
as one more element of it. A layer late in the network so costs little, nothing upstream of a layer is computed twice,
and one session serves all layers.

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

from onnxlint_q.calibration.batch_rules import REARRANGING, RULES, MixesBatchError, Tensors
from onnxlint_q.calibration.executable import PREFIX, Executable, declare_external
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
# Activations that ONNX Runtime fuses into a convolution.
_FUSED = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})


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


def fan_out(model: Model, executable: Executable, variants: Mapping[str, Array]) -> FanOut:
    """Put one variant a layer into one graph.

    Args:
        model: the model that `executable` was folded from.
        executable: the folded float model, with a batch of one.
        variants: another weight for some layers, by layer key, in the layout of the executable's own.

    Raises:
        MixesBatchError: an operator behind one of the layers does not keep batch elements apart.
    """
    return _Builder(model, executable, variants).build()


class _Builder:
    def __init__(self, model: Model, executable: Executable, variants: Mapping[str, Array]) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(executable.proto)
        self.tensors = Tensors(model, self.proto)
        self.base = executable
        self.by_weight = {executable.layer_weights[key]: key for key in variants}
        self.variants = variants
        self.graph = onnx.GraphProto()
        self.weights: dict[str, Array] = {}
        # The variants that a tensor carries; a tensor that is not named here carries none.
        self.carried: dict[str, tuple[str, ...]] = {}
        self.indices: dict[tuple[int, ...], str] = {}
        self.aligned: dict[tuple[str, tuple[str, ...]], str] = {}
        # An activation that nothing but a layer feeds stays with it, because ONNX Runtime computes the two in one.
        self.activated = _activated(self.proto.graph)
        self.waiting: dict[str, tuple[str, str]] = {}
        self.known = {node.outputs[0]: node for node in model.nodes if node.graph == ROOT and node.outputs}

    def build(self) -> FanOut:
        source = self.proto.graph
        for node in list(source.node):
            self._visit(node)
        del source.node[:]
        source.node.extend(self.graph.node)
        source.initializer.extend([*self.graph.initializer, *self.tensors.added])
        for value in source.output:
            value.type.tensor_type.ClearField("shape")
        del source.value_info[:]
        executable = replace(self.base, proto=self.proto, weights={**self.base.weights, **self.weights})
        return FanOut(executable, {value.name: self.carried.get(value.name, ()) for value in source.output})

    def _visit(self, node: onnx.NodeProto) -> None:
        layer = next((self.by_weight[name] for name in node.input if name in self.by_weight), None)
        union = tuple(dict.fromkeys(v for name in node.input for v in self.carried.get(name, ())))
        if union:
            self._check_captures(node)
            self._keep_apart(node, union)
        self.graph.node.append(node)
        placed = self.graph.node[-1]
        self.carried.update((name, union) for name in node.output if name and union)
        if layer is not None:
            self._split_off(placed, layer, union)
        elif node.input and node.input[0] in self.waiting:
            self._activate(placed, union)
        elif union:
            self._close(placed, 1 + len(union))

    def _check_captures(self, node: onnx.NodeProto) -> None:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} has a subgraph")

    def _keep_apart(self, node: onnx.NodeProto, union: tuple[str, ...]) -> None:
        """Bring the inputs of `node` to the same batch, or refuse it."""
        rule = RULES.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
        known = self.known.get(node.output[0])
        if rule is None or known is None:
            raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} is not known to keep a batch apart")
        if not self.tensors.front.isdisjoint(known.inputs) and node.op_type not in REARRANGING:
            raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} follows a reshape of the batch")
        rule(self.tensors, node, known, 1 + len(union))
        for position, name in enumerate(node.input):
            if name and not self._is_constant(name) and self._has_batch(name):
                node.input[position] = self._brought_to(name, union)

    def _split_off(self, node: onnx.NodeProto, layer: str, union: tuple[str, ...]) -> None:
        """Compute `node` once more on the float part with the variant's weight, and append that to its result."""
        if self.tensors.shape(self.known[node.output[0]].outputs[0]) is None and node.op_type == "MatMul":
            raise MixesBatchError(f"the rank of MatMul {node.output[0]!r} is unknown")
        weight = f"{PREFIX}v{len(self.weights)}"
        array = np.asarray(self.variants[layer], self.base.weights[self.base.layer_weights[layer]].dtype, order="C")
        elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.graph.initializer.append(declare_external(weight, elem_type, array.shape))
        self.weights[weight] = array
        twin = self._twin(node)
        old = self.base.layer_weights[layer]
        for position, name in enumerate(twin.input):
            if name == old:
                twin.input[position] = weight
            elif self.carried.get(name) or name in self._aligned_names():
                twin.input[position] = self._gathered(name, (0,))
        self.graph.node.append(twin)
        if node.output[0] in self.activated:
            self.waiting[node.output[0]] = (twin.output[0], layer)
        else:
            self._join(node, twin.output[0], layer, union)

    def _activate(self, node: onnx.NodeProto, union: tuple[str, ...]) -> None:
        """The activation behind a layer, once more on the twin that waits for it."""
        waiting, layer = self.waiting.pop(node.input[0])
        twin = self._twin(node)
        twin.input[0] = waiting
        self.graph.node.append(twin)
        self._join(node, twin.output[0], layer, union)

    def _join(self, node: onnx.NodeProto, twin: str, layer: str, union: tuple[str, ...]) -> None:
        """Append what `twin` holds to the result of `node`."""
        result = node.output[0]
        node.output[0] = f"{PREFIX}float{len(self.graph.node)}"
        self.graph.node.append(helper.make_node("Concat", [node.output[0], twin], [result], axis=0))
        self.carried[node.output[0]] = union
        self.carried[result] = (*union, layer)

    def _twin(self, node: onnx.NodeProto) -> onnx.NodeProto:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = ""
        twin.output[0] = f"{PREFIX}twin{len(self.graph.node)}"
        return twin

    def _aligned_names(self) -> set[str]:
        return set(self.aligned.values())

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

    def _close(self, node: onnx.NodeProto, batch: int) -> None:
        """A tensor with the batch in front whose own first axis has length 1 has the batch there again."""
        for position, name in enumerate(node.output):
            shape = self.tensors.shape(name)
            if name not in self.tensors.front or not shape or shape[0] != 1:
                continue
            if shape.count(None) > 1:
                raise MixesBatchError(f"the shape of {name!r} is unknown")
            target = self.tensors.add_constant(np.asarray([batch, *(dim or -1 for dim in shape[1:])], np.int64))
            node.output[position] = f"{PREFIX}front{len(self.graph.node)}_{position}"
            self.graph.node.append(helper.make_node("Reshape", [node.output[position], target], [name]))
            self.tensors.front.discard(name)


def _activated(graph: onnx.GraphProto) -> frozenset[str]:
    """Tensors that one activation reads and nothing else."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return frozenset()
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    fixed = {tensor.name for tensor in graph.initializer}
    return frozenset(
        node.input[0]
        for node in graph.node
        if node.op_type in _FUSED
        and node.domain in {"", "ai.onnx"}
        and read[node.input[0]] == 1
        and fixed.issuperset(filter(None, node.input[1:]))
    )


def blocks(output: Array, order: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """An output of a FanOut as the float result and the result of each variant."""
    parts = np.split(output, 1 + len(order), axis=0)
    return parts[0], dict(zip(order, parts[1:], strict=True))
