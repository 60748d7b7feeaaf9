"""Which activations get a scale of their own when a float model is quantised statically.

Follows onnxruntime.quantization.quantize_static (1.31.1: QDQRegistry and QLinearOpsRegistry of
onnxruntime/quantization/registry.py) with its default operator types and QDQ format, the placement that
users get: inputs and outputs of quantisable operators; nothing between a layer and the Relu or Clip that alone reads
it, because the quantiser absorbs both; operators that only move values keep the scale of what they read. Subgraphs
are not quantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

# Read and write quantised tensors with scales of their own.
_COMPUTING = frozenset(
    {
        "Add", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "CumSum", "Gemm",
        "GlobalAveragePool", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "MatMul", "Mul", "Sigmoid",
        "Softmax", "Where",
    }
)  # fmt: skip
# Move values: the result keeps the scale of the input, exactly.
_MOVING = frozenset(
    {
        "Flatten", "Gather", "GatherElements", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Squeeze", "TopK",
        "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# Compute new values but are given the scale of their input.
_SHARING = frozenset({"AveragePool", "Resize"})
ABSORBED = frozenset({"Relu", "Clip"})
"""Operators that the quantiser absorbs into the layer before them."""
# Every operator type that the quantiser handles; those above and ArgMax, which reads codes as well as values.
QUANTIZED_OPERATORS = _COMPUTING | _MOVING | _SHARING | ABSORBED | {"ArgMax"}
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, 0})


@dataclass(frozen=True, slots=True)
class Placement:
    """One tensor that is quantised.

    Attributes:
        tensor: its key, in the folded model.
        like: key of the tensor whose scale it uses; itself unless the quantiser makes it share one.
        constant: an operand that does not depend on the inputs.
    """

    tensor: str
    like: str
    constant: bool = False


def quantized_activations(model: Model, layers: Sequence[FoldedLayer]) -> tuple[Placement, ...]:
    """Every activation of the folded model that gets a scale, in data order."""
    return _Placer(model, layers).place()


def stored_tensor(model: Model, result: str) -> str:
    """Key of the tensor that holds a layer's result at run time: that of the last Relu or Clip absorbed behind it."""
    while (reader := model.sole_consumer(result)) is not None and reader.is_standard and reader.op_type in ABSORBED:
        result = reader.output
    return result


class _Placer:
    def __init__(self, model: Model, layers: Sequence[FoldedLayer]) -> None:
        self.model = model
        self.renamed = {folded.layer.output: folded.output for folded in layers}
        self.absorbed = {
            node
            for folded in layers
            for node in (
                folded.after and folded.after.node,
                folded.before and folded.before.node,
                folded.bias_add,
            )
            if node is not None
        }
        self.weights = {folded.layer.node: {folded.layer.weight, folded.layer.bias} for folded in layers}
        # Key of a tensor to the key of the tensor whose scale it has.
        self.scale_of: dict[str, str] = {}
        self.constants: set[str] = set()

    def place(self) -> tuple[Placement, ...]:
        for node in self.model.nodes:
            if node.graph == ROOT and node.is_standard and node not in self.absorbed and node.output:
                self._visit(node)
        moved = {self.renamed.get(k, k) for n in self.model.nodes if n.op_type in _MOVING for k in n.outputs}
        return tuple(
            Placement(tensor, like, tensor in self.constants)
            for tensor, like in self.scale_of.items()
            if tensor == like or tensor not in moved
        )

    def _visit(self, node: Node) -> None:
        if node.op_type in ABSORBED:
            self._absorb(node)
        elif node.op_type in _MOVING or node.op_type in _SHARING:
            source = self.scale_of.get(node.input(0))
            if source is not None:
                self.scale_of.update({key: source for key in node.outputs if key})
        elif node.op_type in _COMPUTING:
            skip = self.weights.get(node, set())
            result = self.renamed.get(node.output, node.output)
            for key in (*(key for key in node.inputs if key and key not in skip), result):
                if self._is_float(key):
                    self._give_scale(key)

    def _absorb(self, node: Node) -> None:
        """A Relu or Clip takes over the scale of its input if it is the only reader."""
        key = node.input(0)
        if key not in self.scale_of:
            return
        if self.model.sole_consumer(key) is node and self.scale_of[key] == key:
            del self.scale_of[key]
        self._give_scale(node.output)

    def _give_scale(self, key: str) -> None:
        if key not in self.scale_of:
            self.scale_of[key] = key
            if self.model.is_constant(key):
                self.constants.add(key)

    def _is_float(self, key: str) -> bool:
        """Shape arithmetic runs through the same operators; a tensor of unknown type is taken for a float one."""
        known = self.model.types.get(key)
        return (known.elem_type if known else 0) in _FLOATS
