"""The network that a file computes, without what quantisation put around it.

A float file and its quantised form differ in plumbing: QuantizeLinear and DequantizeLinear, casts, rescaling after an
integer product, batch norms that were folded, biases that became a node of their own, rectifiers that a zero point
took over. Here all of it vanishes into values and operations, so that both files give the same skeleton:

- a *value* is one real-valued activation, whatever tensors hold it: the float tensor, its codes, the codes
  dequantised, a copy;
- an *operation* reads values and makes values. What follows a result and has it for itself belongs to the operation
  that made it: BatchNormalization, addition and multiplication of constants, Relu and Clip. So a convolution ends
  behind its rectifier whether that is a node or the zero point of its result.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.graph import Model, Node, QuantizedTensor, Role
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import StaticScale, Trait

# One more tensor that holds the same value.
_COPIES = Trait.COPIES | Trait.QUANTIZES
# What belongs to the operation before it, if that is the only one it reads.
_CONTINUES = Trait.ADDS | Trait.SCALES
# What hands codes on as they are, so that the result has the qparams of what it reads.
_HANDS_ON = Trait.MOVES | Trait.JOINS | Trait.RESAMPLES
# Attributes that say how codes are stored or that repeat what a shape says.
_STORAGE = frozenset({"channels_last", "to", "axis", "allowzero"})


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One computing step of the network.

    Attributes:
        node: the operator that computes; what follows it and belongs to it is not named.
        kind: its operator without the prefixes of the quantised forms: `QLinearConv` and `ConvInteger` are `Conv`.
        inputs, outputs: indices of values; constants are not among the inputs.
        layer: the folded layer that it is, if it is one.
        signature: attributes and integer constants, to tell two slices of one tensor apart.
        behind: what follows it and belongs to it, in data order: rescaling, a bias, a rectifier.
    """

    node: Node
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    layer: FoldedLayer | None
    signature: Hashable
    behind: tuple[Node, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The operator that computes, and what belongs to it."""
        return (self.node, *self.behind)

    @property
    def commutative(self) -> bool:
        """Whether the order of its inputs says nothing."""
        return self.node.operator.has(Trait.COMMUTATIVE)


@dataclass(frozen=True, slots=True, eq=False)
class StoredValue:
    """A value and where the file holds it.

    Attributes:
        tensors: keys that hold it, in data order, codes and their dequantised copies among them.
        quantized: the pair it is read through; None where readers see it in float.
    """

    tensors: tuple[str, ...]
    quantized: QuantizedTensor | None


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Values and operations of the main graph of one model, both in data order.

    Attributes:
        value_of: index of the value that a tensor holds, by tensor key.
    """

    model: Model
    values: tuple[StoredValue, ...]
    operations: tuple[Operation, ...]
    value_of: Mapping[str, int]

    def readers(self) -> Mapping[int, tuple[Operation, ...]]:
        """The operations that read each value."""
        found: dict[int, dict[Operation, None]] = {}
        for operation in self.operations:
            for value in operation.inputs:
                found.setdefault(value, {})[operation] = None
        return {value: tuple(operations) for value, operations in found.items()}

    def makers(self) -> Mapping[int, Operation]:
        """The operation that makes each value; inputs of the model have none."""
        return {value: operation for operation in self.operations for value in operation.outputs}


def skeleton(model: Model, layers: Iterable[FoldedLayer], quantized: Iterable[QuantizedTensor]) -> Skeleton:
    """The skeleton of `model`, whose layers and pairs are known; nodes of subgraphs are left out.

    A recurrent operator is paired like any other operator: its weights are not compared.
    """
    builder = _Builder(model, {layer.layer.node: layer for layer in layers if layer.layer.is_product})
    for node in model.nodes:
        if node.graph == ROOT:
            builder.add(node)
    return builder.finish(quantized)


class _Builder:
    def __init__(self, model: Model, layers: Mapping[Node, FoldedLayer]) -> None:
        self.model = model
        self.layers = layers
        self.tensors: list[list[str]] = []
        self.value_of: dict[str, int] = {}
        # What no sample changes: sizes, and what is computed of constants.
        self.sizes: set[str] = set()
        self.operations: list[Operation] = []
        self.made: dict[int, list[Node]] = {}
        # Values that nobody reads but the plumbing behind them, by index.
        self.exclusive: dict[int, bool] = {}
        self.regrouped = {node for gemm in model.nodes_of("Gemm") for node in _around(model, gemm)}
        for value in model.inputs:
            self._new(value.name)

    def add(self, node: Node) -> None:
        if not node.outputs or self.model.is_constant(node.output):
            return
        data = [key for key in node.inputs if key in self.value_of]
        operator = node.operator
        if operator.has(Trait.MEASURES) or (not data and self._is_settled(node)):
            self.sizes.update(filter(None, node.outputs))
            return
        if data and (operator.has(_COPIES) or node in self.regrouped):
            self._hold(node.output, data[0])
            self.sizes.update(filter(None, node.outputs[1:]))
            return
        if self._continues(node, data):
            value = self.value_of[data[0]]
            self.tensors[value] = [node.output]
            self.value_of[node.output] = value
            self.made[value].append(node)
            return
        self._operation(node, data)

    def finish(self, quantized: Iterable[QuantizedTensor]) -> Skeleton:
        pairs: dict[int, QuantizedTensor] = {}
        for pair in quantized:
            value = self.value_of.get(pair.codes)
            if value is not None and pair.role is Role.ACTIVATION and pair.codes in self.tensors[value]:
                pairs.setdefault(value, pair)
        self._hand_on(pairs)
        values = tuple(StoredValue(tuple(keys), pairs.get(index)) for index, keys in enumerate(self.tensors))
        operations = tuple(replace(made, behind=self._behind(made)) for made in self.operations)
        return Skeleton(self.model, values, operations, self.value_of)

    def _behind(self, operation: Operation) -> tuple[Node, ...]:
        return tuple(node for value in operation.outputs for node in self.made[value])

    def _hand_on(self, pairs: dict[int, QuantizedTensor]) -> None:
        """Give codes that were only moved the qparams of those that they were."""
        codes = {pair.codes: pair for pair in pairs.values()}
        for operation in self.operations:
            read = [codes.get(key) for key in operation.node.inputs if key in self.value_of]
            if not operation.node.operator.has(_HANDS_ON) or not read or read[0] is None:
                continue
            for value in operation.outputs:
                first = self.tensors[value][0]
                if first not in codes:
                    codes[first] = replace(read[0], tensor=first, codes=first)
                pairs.setdefault(value, codes[first])

    def _operation(self, node: Node, data: list[str]) -> None:
        outputs = tuple(self._new(key) for key in node.outputs if key)
        inputs = tuple(self.value_of[key] for key in data)
        self.made.update((value, []) for value in outputs)
        operation = Operation(node, _kind(node), inputs, outputs, self.layers.get(node), _signature(self.model, node))
        self.operations.append(operation)

    def _new(self, tensor: str) -> int:
        self.tensors.append([tensor])
        self.value_of[tensor] = len(self.tensors) - 1
        return len(self.tensors) - 1

    def _hold(self, tensor: str, source: str) -> None:
        value = self.value_of[source]
        self.tensors[value].append(tensor)
        self.value_of[tensor] = value
        if self.model.sole_consumer(source) is None:
            self.exclusive[value] = False

    def _is_settled(self, node: Node) -> bool:
        """Whether it reads nothing but sizes and constants, so that no sample changes what it makes."""
        read = [key for key in node.inputs if key]
        settled = all(key in self.sizes or self.model.is_constant(key) for key in read)
        return bool(read) and settled and not node.subgraphs and not node.operator.has(Trait.RANDOM)

    def _continues(self, node: Node, data: list[str]) -> bool:
        """Whether `node` belongs to the operation before it."""
        operator = node.operator
        if len(data) != 1 or not (operator.has(_CONTINUES) or operator.static is StaticScale.ABSORBED):
            return False
        value = self.value_of[data[0]]
        alone = self.exclusive.get(value, True) and self.model.sole_consumer(data[0]) is node
        return alone and value in self.made


def _around(model: Model, gemm: Node) -> tuple[Node, ...]:
    """The two Reshape around a Gemm that was a product of another rank, as ONNX Runtime writes it.

    One puts all axes but the last into one, and the other brings them back.
    """
    before, behind = model.producer(gemm.input(0)), model.sole_consumer(gemm.output)
    while before is not None and before.operator.has(_COPIES):
        before = model.producer(before.input(0))
    while behind is not None and behind.operator.has(_COPIES):
        behind = model.sole_consumer(behind.output)
    if before is None or behind is None or before.op_type != "Reshape" or behind.op_type != "Reshape":
        return ()
    given, made = model.shape(before.input(0)), model.shape(behind.output)
    return (before, behind) if given and made and given[:-1] == made[:-1] and None not in given[:-1] else ()


def _kind(node: Node) -> str:
    if node.operator.has(Trait.RESHAPES):
        return "Reshape"
    # A Gemm without a bias is a MatMul, and is written as one by some.
    return "MatMul" if node.operator.form == "Gemm" else node.operator.form


def _signature(model: Model, node: Node) -> Hashable:
    attributes = [
        (name, repr(value))
        for name, value in sorted(node.attributes.items())
        if name not in _STORAGE and isinstance(value, (int, float, bytes, list))
    ]
    constants = (model.constant(key) for key in node.inputs if key and _is_small_integer(model, key))
    numbers = [tuple(np.ravel(value).tolist()) for value in constants if value is not None]
    return (tuple(attributes), tuple(numbers))


def _is_small_integer(model: Model, key: str) -> bool:
    stored = model.constants.initializer(key)
    if stored is None:
        known = model.types.get(key)
        listed = known is not None and known.elem_type == TensorProto.INT64 and len(known.shape or ()) <= 1
        return listed and model.is_constant(key)
    return stored.data_type == TensorProto.INT64 and len(stored.dims) <= 1 and sum(stored.dims) <= 64
