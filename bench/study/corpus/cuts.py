"""Cut networks: what a network computes up to an inner tensor is a network of its own, with another kind of output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from .store import About, Corpus

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU"})
# Where a user would take features: behind layers, activations, sums, norms. What only moves values is no such place.
ENDS = LAYERS | frozenset(
    "Relu LeakyRelu HardSwish Sigmoid Tanh Clip Mul Add Concat BatchNormalization LayerNormalization MaxPool".split()
)
FEWEST_LAYERS = 3


def cut_all(corpus: Corpus, names: Sequence[str], cuts: int, seed: int) -> None:
    """Add cuts of networks at random tensors spread over their depth; those that are there already stay."""
    have = {about.name for about in corpus.all()}
    for about in [about for about in corpus.all() if about.name in names]:
        model, random = onnx.load(corpus.model(about.name)), np.random.default_rng(seed)
        for number, tensor in enumerate(places(model, cuts, random), 1):
            name = f"{about.name}_cut{number}"
            if name in have:
                continue
            part = cut(model, tensor)
            needed = {value.name for value in part.graph.input}
            arrays = {key: values for key, values in corpus.arrays(about.name).items() if key in needed}
            made = About(name, about.family, f"{about.source}, cut at {tensor}", about.kind, seed, about.name)
            corpus.add(made, part, arrays)


def places(model: onnx.ModelProto, cuts: int, random: np.random.Generator) -> Iterator[str]:
    """One tensor of each of so many stretches of the depth, which is counted in layers in front of a tensor."""
    depths = _depths(model)
    most = max((depth for _, depth in depths.values()), default=0)
    floats = _floats(model)
    ends = {output.name for output in model.graph.output}
    for number in range(cuts):
        low, high = (most * (number + step) / (cuts + 0.5) for step in (0.5, 1.0))
        found = [
            tensor
            for tensor, (op_type, depth) in depths.items()
            if op_type in ENDS and tensor in floats and tensor not in ends and max(low, FEWEST_LAYERS) <= depth <= high
        ]
        if found:
            yield found[int(random.integers(len(found)))]


def cut(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """The nodes that the tensor depends on, with the tensor for the only output."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    needed, waiting = set[str](), [tensor]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            waiting += _reads(makers[name])
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    nodes = [node for node in model.graph.node if any(name in needed for name in node.output if name)]
    for held, kept in (
        (graph.node, nodes),
        (graph.initializer, [value for value in model.graph.initializer if value.name in needed]),
        (graph.input, [value for value in model.graph.input if value.name in needed]),
    ):
        del held[:]
        held.extend(kept)
    del graph.output[:]
    typed = [value for value in _inferred(model).graph.value_info if value.name == tensor]
    graph.output.extend(typed or [onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)])
    return part


def _reads(node: onnx.NodeProto) -> list[str]:
    """Inputs of a node, and what its bodies may read from outside."""
    bodies = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return [name for name in node.input if name] + [
        name for body in bodies for inner in body.node for name in _reads(inner)
    ]


def _depths(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """The maker's type and the layers in front of each tensor that depends on an input, itself included."""
    stored = {value.name for value in model.graph.initializer}
    ahead: dict[str, frozenset[int]] = {
        value.name: frozenset() for value in model.graph.input if value.name not in stored
    }
    kinds: dict[str, str] = {}
    for place, node in enumerate(model.graph.node):
        known = [ahead[name] for name in _reads(node) if name in ahead]
        if not known:
            continue
        layers = frozenset().union(*known) | ({place} if node.op_type in LAYERS else frozenset())
        for name in filter(None, node.output):
            ahead[name], kinds[name] = layers, node.op_type
    return {name: (kinds[name], len(ahead[name])) for name in kinds}


def _floats(model: onnx.ModelProto) -> set[str]:
    """Inner tensors that are known to hold floats along two axes at least."""
    found = set()
    for value in _inferred(model).graph.value_info:
        of = value.type.tensor_type
        if of.elem_type == onnx.TensorProto.FLOAT and (not of.HasField("shape") or len(of.shape.dim) > 1):
            found.add(value.name)
    return found


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)
