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
from onnxlint_q.graph.operators import StaticScale

# Of these the gain is marked as well; shift, mean and variance get no scale of 8 bits.
_NORMALISATIONS = frozenset({"BatchNormalization", "InstanceNormalization", "LayerNormalization"})
# A table that these look values up in is marked, where it is stored in the file.
_LOOKUPS = frozenset({"Gather", "GatherElements"})
# Values that such a Pad adds are in every range: zero, or values of the input.
_PADS_OWN_VALUES = frozenset({"reflect", "edge", "wrap"})
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
    while (reader := model.sole_consumer(result)) is not None and _treated(reader) is StaticScale.ABSORBED:
        result = reader.output
    return result


def is_quantized(node: Node) -> bool:
    """Whether the static quantiser does anything with an operator of this type."""
    return _treated(node) is not None


def is_taken_away(node: Node) -> bool:
    """Whether the static quantiser takes a node of this type away, where it alone reads what is rounded before it."""
    return _treated(node) is StaticScale.ABSORBED


def _treated(node: Node) -> StaticScale | None:
    return node.operator.static if node.is_standard else None


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
        treated = _treated(node) if self.model.opset >= node.operator.static_since else None
        if treated is StaticScale.OWN:
            self._mark(*self._read(node), *self._results(node))
        elif treated is StaticScale.ABSORBED:
            self._absorb(node)
        elif treated is StaticScale.ALL:
            if all(key in self.scale_of for key in node.operator.data_of(node.inputs)):
                self._mark(*self._results(node))
        elif node.op_type == "Pad":
            self._pad(node)
        elif treated is not None:
            self._share(node, treated)

    def _read(self, node: Node) -> Iterator[str]:
        """The inputs that are marked; the weight of a layer that is known as one is not an activation."""
        own = self.weights.get(node, ())
        gain = node.inputs[1:2] if node.op_type in _NORMALISATIONS else ()
        weight = tuple(node.input(slot) for slot in node.operator.weight_inputs)
        keys = (*node.operator.data_of(node.inputs), *gain, *weight)
        return (key for key in dict.fromkeys(keys) if key and key not in own)

    def _results(self, node: Node) -> Iterator[str]:
        return (self.renamed.get(key, key) for key in node.outputs if key)

    def _share(self, node: Node, treated: StaticScale) -> None:
        source = node.input(0)
        looks_up = node.op_type in _LOOKUPS and self.model.constants.initializer(source) is not None
        if looks_up or treated is StaticScale.ASKED:
            self._mark(source)
        if source in self.scale_of:
            self._give_scale_of(source, self._results(node), moves=treated is not StaticScale.LENT)

    def _pad(self, node: Node) -> None:
        self._mark(*filter(None, node.inputs))
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
