"""Which activations get a scale when a float model is quantised statically.

Follows onnxruntime.quantization.quantize_static (1.32.0: qdq_quantizer.py, registry.py and operators/ of
onnxruntime/quantization) with its default operator types and QDQ format, the placement that users get. Each operator
marks tensors when its turn comes, in data order:

- an operator that computes marks its inputs and outputs;
- nothing is left between a layer and the Relu or Clip that alone reads it: the quantiser removes them, because the
  range of their result clips as they do;
- an operator that moves values marks nothing by itself: where its input is marked, its outputs take the same scale;
- of a normalisation its mean, variance and shift keep their values, its gain is marked.

Subgraphs are not quantised. The oracle of this module is the quantiser itself, on every float model at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

# Mark what they read and write.
_COMPUTING = frozenset(
    {
        "Add", "ArgMax", "Concat", "CumSum", "GlobalAveragePool", "LeakyRelu", "MatMul", "Mul", "Sigmoid", "Softmax",
    }
)  # fmt: skip
# Mark their result and their first two inputs: data and weight or gain. Bias, mean and variance get no scale of 8 bits.
_WEIGHTED = frozenset(
    {
        "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "InstanceNormalization", "LayerNormalization",
    }
)  # fmt: skip
# The result takes the scale of the input, where that has one. The number is the first opset in which they do.
_SHARING = {
    "AveragePool": 1, "Flatten": 1, "Gather": 1, "GatherElements": 1, "MaxPool": 12, "Reshape": 1, "Resize": 11,
    "Slice": 1, "Split": 1, "Squeeze": 1, "TopK": 1, "Transpose": 1, "Unsqueeze": 1,
}  # fmt: skip
# Of those, what returns other values than it reads: rounding them again costs something.
_SHARING_NEW_VALUES = frozenset({"AveragePool", "Resize"})
# Values that such a Pad adds are in every range: zero, or values of the input.
_PADS_OWN_VALUES = frozenset({"reflect", "edge", "wrap"})
ABSORBED = frozenset({"Relu", "Clip"})
"""Operators that the quantiser absorbs into the layer before them."""
QUANTIZED_OPERATORS = _COMPUTING | _WEIGHTED | _SHARING.keys() | ABSORBED | {"Pad", "Where"}
"""Every operator type that the quantiser handles."""
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, 0})


@dataclass(frozen=True, slots=True)
class Placement:
    """One tensor that gets a scale.

    Attributes:
        tensor: its key, in the folded model.
        like: key of the tensor whose scale it uses; itself unless the quantiser makes it share one.
        constant: an operand that does not depend on the inputs.
        moved: it holds values of `like`, rearranged, so that rounding it again changes nothing.
    """

    tensor: str
    like: str
    constant: bool = False
    moved: bool = False


def scaled_tensors(model: Model, layers: Sequence[FoldedLayer]) -> tuple[Placement, ...]:
    """Every activation and constant operand of the folded model that gets a scale, in data order."""
    return tuple(_Placer(model, layers).place())


def quantized_activations(model: Model, layers: Sequence[FoldedLayer]) -> tuple[Placement, ...]:
    """Those of `scaled_tensors` that rounding changes."""
    return tuple(place for place in scaled_tensors(model, layers) if not place.moved)


def stored_tensor(model: Model, result: str) -> str:
    """Key of the tensor that holds a layer's result at run time: that of the last Relu or Clip absorbed behind it."""
    while (reader := model.sole_consumer(result)) is not None and reader.is_standard and reader.op_type in ABSORBED:
        result = reader.output
    return result


class _Placer:
    def __init__(self, model: Model, layers: Sequence[FoldedLayer]) -> None:
        self.model = model
        self.renamed = {folded.layer.output: folded.output for folded in layers}
        self.folded_away = {
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
        # Key of a tensor to the key of the tensor whose scale it has, and what only moves values of that.
        self.scale_of: dict[str, str] = {}
        self.moved: set[str] = set()

    def place(self) -> Iterator[Placement]:
        for node in self.model.nodes:
            if node.graph == ROOT and node.is_standard and node not in self.folded_away and node.output:
                self._visit(node)
        for tensor, like in self.scale_of.items():
            yield Placement(tensor, like, self.model.is_constant(tensor), tensor in self.moved)

    def _visit(self, node: Node) -> None:
        read = [key for key in node.inputs if key and key not in self.weights.get(node, ())]
        if node.op_type in _COMPUTING:
            self._mark(*read, *self._results(node))
        elif node.op_type in _WEIGHTED:
            self._mark(*(key for key in read if key in node.inputs[:2]), *self._results(node))
        elif node.op_type in _SHARING and self.model.opset >= _SHARING[node.op_type]:
            self._share(node)
        elif node.op_type in ABSORBED:
            self._absorb(node)
        elif node.op_type == "Pad":
            self._pad(node, read)
        elif node.op_type == "Where" and all(node.input(slot) in self.scale_of for slot in (1, 2)):
            self._mark(*self._results(node))

    def _results(self, node: Node) -> Iterator[str]:
        return (self.renamed.get(key, key) for key in node.outputs if key)

    def _share(self, node: Node) -> None:
        source = node.input(0)
        stored = node.op_type.startswith("Gather") and self.model.constants.initializer(source) is not None
        if stored or node.op_type == "Split":
            self._mark(source)
        if source in self.scale_of:
            self._give_scale_of(source, self._results(node), moves=node.op_type not in _SHARING_NEW_VALUES)

    def _pad(self, node: Node, read: Sequence[str]) -> None:
        self._mark(*read)
        value = self.model.constant(node.input(2)) if node.input(2) else None
        zero = node.float("value", 0.0) == 0 if not node.input(2) else value is not None and not value.any()
        mode = node.text("mode", "constant")
        if node.input(0) in self.scale_of and (mode in _PADS_OWN_VALUES or (mode == "constant" and zero)):
            self._give_scale_of(node.input(0), self._results(node), moves=True)
        else:
            self._mark(*self._results(node))

    def _absorb(self, node: Node) -> None:
        """A Relu or Clip goes, and its result takes the place of its input, where it is the only reader."""
        key = node.input(0)
        if key not in self.scale_of:
            return
        if self.model.sole_consumer(key) is node and self.model.producer(key) is not None:
            del self.scale_of[key]
            self.moved.discard(key)
        self._mark(*self._results(node))

    def _give_scale_of(self, source: str, results: Iterator[str], *, moves: bool) -> None:
        for key in filter(self._is_float, results):
            self.scale_of[key] = self.scale_of[source]
            if moves:
                self.moved.add(key)

    def _mark(self, *keys: str) -> None:
        for key in filter(self._is_float, keys):
            self.scale_of.setdefault(key, key)

    def _is_float(self, key: str) -> bool:
        """Shape arithmetic runs through the same operators; a tensor of unknown type is taken for a float one."""
        known = self.model.types.get(key)
        return (known.elem_type if known else 0) in _FLOATS
