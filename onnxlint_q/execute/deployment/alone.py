"""One quantised operator in a model of its own, with the pairs around it, fed the codes that it reads in the file.

Alone it is fused as in the file: a kernel takes the place of `DequantizeLinear`, the operator, an activation that the
kernel absorbs, and `QuantizeLinear`. What it gives then is its own doing; no error comes with its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.analysis.number_formats import OVERFLOWN_DB, decibel
from onnxlint_q.execute.executable import Executable
from onnxlint_q.graph import Model, Node, Trait
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
# Activations between an operator and its QuantizeLinear that kernels absorb, one after another.
_MOST_ABSORBED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """Where an operator is cut out of the file.

    Attributes:
        node: the operator.
        nodes: it with the pairs around it, in data order.
        reads: tensors that are fed: codes of activations, and what is not quantised.
        result: what is compared: codes, or the operator's own result where it is not quantised again.
        coded: whether the result is codes.
    """

    node: Node
    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    result: str
    coded: bool


def operators_alone(model: Model) -> Iterator[Alone]:
    """Every operator of the main graph that a kernel can replace: it computes with dequantised activations."""
    for node in model.nodes:
        moves = node.operator.has(Trait.MOVES | Trait.QUANTIZES)
        if node.graph == ROOT and not node.subgraphs and not moves:
            found = _cut(model, node)
            if found is not None:
                yield found


def _cut(model: Model, node: Node) -> Alone | None:
    before: list[Node] = []
    reads: list[str] = []
    for key in dict.fromkeys(filter(None, node.inputs)):
        producer = model.producer(key)
        if producer is not None and producer.op_type == "DequantizeLinear":
            before.append(producer)
            reads += [read for read in producer.inputs if read and not model.is_constant(read)]
        elif not model.is_constant(key):
            reads.append(key)
    if not any(not model.is_constant(dequantiser.input(0)) for dequantiser in before):
        return None
    behind, result, coded = _behind(model, node)
    return Alone(node, (*before, node, *behind), tuple(dict.fromkeys(reads)), result, coded)


def _behind(model: Model, node: Node) -> tuple[tuple[Node, ...], str, bool]:
    """What follows up to the rounding of the result, the tensor to compare, and whether it holds codes."""
    passed: list[Node] = []
    last = node
    for _ in range(_MOST_ABSORBED + 1):
        reader = model.sole_consumer(last.output)
        if reader is None or reader.input(0) != last.output or reader.subgraphs:
            break
        passed.append(reader)
        if reader.op_type == "QuantizeLinear":
            return tuple(passed), reader.output, True
        if not reader.operator.has(Trait.RECTIFIES):
            break
        last = reader
    return (), node.output, False


def given_to(model: Model, node: Node) -> dict[str, Array] | None:
    """Arrays of the types that an operator reads at run time, each axis that is open of length 1; None if not known."""
    found: dict[str, Array] = {}
    for key in node.inputs:
        if not key or model.is_constant(key):
            continue
        known = model.types.get(key)
        if known is None or known.shape is None or not known.elem_type:
            return None
        dtype = helper.tensor_dtype_to_np_dtype(known.elem_type)
        # A view of one value: a shape out of an untrusted file takes no memory.
        found[key] = np.broadcast_to(np.zeros((), dtype), [1 if dim is None else dim for dim in known.shape])
    return found


def model_of(executable: Executable, model: Model, alone: Alone, fed: Mapping[str, Array]) -> Executable:
    """The cut-out operator; `fed` holds an array for each of its `reads`, which says what it takes."""
    wanted = {node.outputs: node for node in alone.nodes}
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    graph = proto.graph
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node if tuple(n.output) in wanted]
    needed = {name for node in kept for name in node.input if name} - {name for node in kept for name in node.output}
    initializers = {tensor.name for tensor in graph.initializer}
    stored = [tensor for tensor in graph.initializer if tensor.name in needed]
    # A constant of the file that no initializer holds, as that of a Constant node.
    computed = {name: model.constants[name] for name in needed - initializers if model.is_constant(name)}
    stored += [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in computed.items()]
    del graph.node[:], graph.input[:], graph.initializer[:], graph.sparse_initializer[:], graph.value_info[:]
    del graph.output[:]
    graph.node.extend(kept)
    graph.initializer.extend(stored)
    graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in fed.items()
    )
    graph.output.append(helper.make_empty_tensor_value_info(alone.result))
    names = {tensor.name for tensor in stored}
    weights = {name: value for name, value in executable.weights.items() if name in names}
    return replace(executable, proto=proto, weights=weights)


@dataclass(frozen=True, slots=True)
class Apart:
    """How far results are from others.

    Attributes:
        sqnr_db: 150 for no difference, -150 for one that is not finite.
        largest: largest difference.
    """

    sqnr_db: float
    largest: float


def difference(default: Sequence[Array], plain: Sequence[Array], *, coded: bool) -> Apart:
    """How far the default results are from the plain ones, over all of them."""
    signal = noise = largest = 0.0
    for theirs, ours in zip(default, plain, strict=True):
        if ours.dtype.kind not in "fiub" or ours.shape != theirs.shape or not ours.size:
            continue
        exact, other = ours.astype(np.float64), theirs.astype(np.float64)
        both = np.isfinite(exact)
        apart = np.abs(np.where(both, other - np.where(both, exact, 0.0), 0.0))
        # Codes lie around a zero point; how far they spread is what they say.
        spread = exact - exact.mean() if coded else np.where(both, exact, 0.0)
        signal += float(np.square(spread).sum())
        noise += float(np.square(apart).sum())
        largest = max(largest, float(apart.max()))
    if noise == 0:
        return Apart(-OVERFLOWN_DB, 0.0)
    found = decibel(signal, noise)
    return Apart(OVERFLOWN_DB if found is None else found, largest)
