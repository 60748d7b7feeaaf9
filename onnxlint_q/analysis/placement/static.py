"""Which activations get a scale when a float model is quantised statically.

Follows onnxruntime.quantization.quantize_static (1.32.0: qdq_quantizer.py, registry.py and operators/ of
onnxruntime/quantization) with its default operator types and QDQ format, the placement that users get. Each operator
marks tensors when its turn comes, in data order:

- an operator that computes marks its inputs and outputs;
- nothing is left between a layer and the Relu or Clip that alone reads it: the quantiser removes them, because the
  range of their result clips as they do;
- an operator that moves values marks nothing by itself: where its input is marked, its outputs take the same scale;
- the scale of what a Softmax gives is that of 0 to 1, whatever calibration sees;
- of a normalisation its mean, variance and shift keep their values, its gain is marked;
- a constant gain or factor of a product has the format of weights, any other constant that of activations.

Users may also have layers only quantised, by a list of operator types: then only layers and products of matrices mark
tensors. Those mark what they read; a convolution marks its result as well, as there is no integer operator that leaves
it in float. What moves values still hands scales on.

Subgraphs are not quantised. Nodes can be excluded, by name and as `nodes_to_exclude` does it: they mark nothing, and
their weights stay in float unless another layer reads the same; what stands beside them still marks the tensors
between. The oracle of this module is the quantiser itself, on every float model at hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import onnx

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.placement.gemm import added_bias, becomes_gemm
from onnxlint_q.analysis.placement.place import Placement
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product, StaticScale, operators

LAYER_TYPES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply matrices."""
FLOAT_RESULTS = frozenset({"Gemm", "MatMul"})
"""Those of them whose integer operators can leave the result in float."""
_HANDED_ON = frozenset({StaticScale.KEPT, StaticScale.LENT, StaticScale.ABSORBED})
HANDS_ON = frozenset(operator.name for operator in operators() if operator.static in _HANDED_ON)
"""Operators that ask for no scale, and hand on the one of their input."""
# Of these the gain is marked as well; shift, mean and variance get no scale of 8 bits.
_NORMALISATIONS = frozenset({"BatchNormalization", "InstanceNormalization", "LayerNormalization"})
# A table that these look values up in is marked, where it is stored in the file.
_LOOKUPS = frozenset({"Gather", "GatherElements"})
# Values that such a Pad adds are in every range: zero, or values of the input.
_PADS_OWN_VALUES = frozenset({"reflect", "edge", "wrap"})
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, 0})


def scaled_tensors(
    model: Model, layers: Sequence[FoldedLayer], excluded: Collection[str] = (), *, layers_only: bool = False
) -> tuple[Placement, ...]:
    """Every activation and constant operand of the folded model that gets a scale, in data order.

    Args:
        model: the graph.
        layers: its layers with what folds into them.
        excluded: names of nodes that stay in float; a folded layer has the name of its operator.
        layers_only: what is no layer and no product stays in float, too.
    """
    return tuple(Placer(model, layers, layers_only=layers_only).place(excluded).values())


def quantized_activations(
    model: Model, layers: Sequence[FoldedLayer], excluded: Collection[str] = (), *, layers_only: bool = False
) -> tuple[Placement, ...]:
    """Those of `scaled_tensors` that rounding changes."""
    found = scaled_tensors(model, layers, excluded, layers_only=layers_only)
    return tuple(place for place in found if not place.moved)


def float_weights(
    model: Model, layers: Sequence[FoldedLayer], excluded: Collection[str], *, layers_only: bool = False
) -> frozenset[str]:
    """Keys of the layers whose weights stay in float where these nodes are excluded.

    A weight that several layers read is quantised for all of them as soon as one of them is. And where both sides of a
    convolution or a Gemm have scales, ONNX Runtime quantises its weight when it loads the file, excluded or not
    (weight_bias_quantization.cc), with one scale for the tensor.
    """
    scaled = {place.tensor for place in scaled_tensors(model, layers, excluded, layers_only=layers_only)}
    origin = {folded.output: model.constants.origin(folded.layer.weight) for folded in layers}
    quantised = {origin[folded.output] for folded in layers if folded.layer.node.name not in excluded}
    return frozenset(
        folded.output
        for folded in layers
        if origin[folded.output] not in quantised
        and not (_is_fused(model, folded) and {folded.layer.input, stored_tensor(model, folded.output)} <= scaled)
    )


def _is_fused(model: Model, folded: FoldedLayer) -> bool:
    """Whether ONNX Runtime makes one integer operator of a layer between two scales, however its weight is stored.

    Of a product of matrices only where that becomes a Gemm.
    """
    layer = folded.layer
    if not layer.is_product:
        return False
    if layer.inputs.product is not Product.MATMUL:
        return True
    return folded.is_folded or becomes_gemm(model, layer.node)


def stored_tensor(model: Model, result: str) -> str:
    """Key of the tensor that holds a layer's result at run time.

    That of the Add that is its bias, and of the last Relu or Clip absorbed behind it.
    """
    product = model.producer(result)
    bias = added_bias(model, product) if product is not None else None
    if bias is not None and not bias.whole:
        return bias.add.output
    result = result if bias is None else bias.add.output
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


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """An operator that the quantiser does something with.

    Attributes:
        read: the inputs that it marks; the weight of a layer that is known as one is not an activation.
        results: its outputs in the folded model.
    """

    node: Node
    treated: StaticScale | None
    read: tuple[str, ...]
    results: tuple[str, ...]


class Placer:
    """Answers for one network, whatever is excluded."""

    def __init__(self, model: Model, layers: Sequence[FoldedLayer], *, layers_only: bool = False) -> None:
        self._model = model
        biases = {
            node.output: bias for node in model.nodes_of("MatMul") if (bias := added_bias(model, node)) is not None
        }
        renamed = {
            **{product: bias.add.output for product, bias in biases.items()},
            **{folded.layer.output: folded.output for folded in layers if folded.is_folded},
        }
        weights = {
            folded.layer.node: {key for layer in folded.layer.operands for key in (layer.weight, layer.bias)}
            for folded in layers
        }
        away = {
            node
            for folded in layers
            for node in (
                folded.after and folded.after.node,
                folded.before and folded.before.node,
                folded.bias_add,
            )
            if node is not None
        } | {bias.add for bias in biases.values()}
        self._kept = frozenset(bias.add.output for bias in biases.values() if not bias.whole)
        known = (node for node in model.nodes if node.graph == ROOT and node.is_standard and node.output)
        self._turns = tuple(
            _Turn(
                node,
                treated,
                tuple(_read(node, weights.get(node, ()))),
                tuple(renamed.get(key, key) for key in node.outputs if key),
            )
            for node in known
            if node not in away and ((treated := _treated_in(model, node)) is not None or node.op_type == "Pad")
        )
        if layers_only:
            self._turns = tuple(_of_layers(self._turns))

    def place(self, excluded: Collection[str] = (), only: Collection[str] | None = None) -> Mapping[str, Placement]:
        """`scaled_tensors` by their key; of these keys `only`, where they are given."""
        placing = _Placing(self._model, self._kept)
        names = frozenset(filter(None, excluded))
        for turn in self._turns:
            if turn.node.name not in names:
                placing.visit(turn)
        return {place.tensor: place for place in placing.placements(names, only)}


def _of_layers(turns: Iterable[_Turn]) -> Iterator[_Turn]:
    """The turns that are left where what is no layer stays in float."""
    for turn in turns:
        if turn.node.op_type in LAYER_TYPES:
            floats = turn.node.op_type in FLOAT_RESULTS
            yield replace(turn, results=()) if floats else turn
        elif turn.node.op_type in HANDS_ON:
            yield turn


def _treated_in(model: Model, node: Node) -> StaticScale | None:
    return _treated(node) if model.opset >= node.operator.static_since else None


def _read(node: Node, own: Collection[str]) -> Iterator[str]:
    gain = node.inputs[1:2] if node.op_type in _NORMALISATIONS else ()
    weight = tuple(node.input(slot) for slot in node.operator.weight_inputs)
    keys = (*node.operator.data_of(node.inputs), *gain, *weight)
    return (key for key in dict.fromkeys(keys) if key and key not in own)


class _Placing:
    """The marks that are set, one operator after the other."""

    def __init__(self, model: Model, kept: Set[str]) -> None:
        self.model = model
        # Results that keep their scale whatever clips them.
        self.kept = kept
        # Key of a tensor to the key of the tensor whose scale it has, and what only moves values of that.
        self.scale_of: dict[str, str] = {}
        self.moved: set[str] = set()
        self.as_weights: set[str] = set()
        # By tensor, the nodes that make it have one; a dict for its order.
        self.asked: dict[str, dict[Node, None]] = defaultdict(dict)
        self.given: dict[str, dict[Node, None]] = defaultdict(dict)

    def placements(self, excluded: Collection[str], only: Collection[str] | None) -> Iterator[Placement]:
        wanted = self.scale_of if only is None else (key for key in only if key in self.scale_of)
        for tensor in wanted:
            like = self.scale_of[tensor]
            yield Placement(
                tensor,
                like,
                self.model.is_constant(tensor),
                tensor in self.moved,
                tuple(self.asked[tensor]),
                tuple(self.given[tensor]),
                self._bounds(like, excluded),
                like in self.as_weights,
            )

    def _bounds(self, like: str, excluded: Collection[str]) -> tuple[float, float] | None:
        """The quantiser takes probabilities from 0 to 1, however small they are on the data."""
        node = self.model.producer(like)
        scores = node is not None and node.is_standard and node.op_type == "Softmax"
        return (0.0, 1.0) if scores and node is not None and node.name not in excluded else None

    def visit(self, turn: _Turn) -> None:
        node, treated = turn.node, turn.treated
        if treated is StaticScale.OWN:
            # Who asks first decides.
            self.as_weights.update(key for key in turn.read if key not in self.scale_of and self._is_weight(node, key))
            self._ask(node, *turn.read, *turn.results)
        elif treated is StaticScale.ABSORBED:
            self._absorb(turn)
        elif treated is StaticScale.ALL:
            if all(key in self.scale_of for key in node.operator.data_of(node.inputs)):
                self._give(node, *turn.results)
        elif node.op_type == "Pad":
            self._pad(turn)
        elif treated is not None:
            self._share(turn, treated)

    def _is_weight(self, node: Node, key: str) -> bool:
        gain = node.op_type in _NORMALISATIONS and key == node.input(1)
        return self.model.is_constant(key) and (gain or node.op_type == "MatMul")

    def _share(self, turn: _Turn, treated: StaticScale) -> None:
        node, source = turn.node, turn.node.input(0)
        looks_up = node.op_type in _LOOKUPS and self.model.constants.initializer(source) is not None
        if looks_up or treated is StaticScale.ASKED:
            self._ask(node, source)
        if source in self.scale_of:
            self._give_scale_of(turn, source, moves=treated is not StaticScale.LENT)

    def _pad(self, turn: _Turn) -> None:
        node = turn.node
        self._ask(node, *filter(None, node.inputs))
        value = self.model.constant(node.input(2)) if node.input(2) else None
        zero = node.float("value", 0.0) == 0 if not node.input(2) else value is not None and not value.any()
        mode = node.text("mode", "constant")
        if node.input(0) in self.scale_of and (mode in _PADS_OWN_VALUES or (mode == "constant" and zero)):
            self._give_scale_of(turn, node.input(0), moves=True)
        else:
            self._ask(node, *turn.results)

    def _absorb(self, turn: _Turn) -> None:
        """A Relu or Clip goes, and its result takes the place of its input, where it is the only reader."""
        node, key, results = turn.node, turn.node.input(0), turn.results
        if key not in self.scale_of:
            return
        alone = self.model.sole_consumer(key) is node and self.model.producer(key) is not None
        if alone and key not in self.kept:
            del self.scale_of[key]
            self.moved.discard(key)
            # Who asked for the scale of the tensor that goes asks for that of the result.
            for asking in self.asked.pop(key, ()):
                self._ask(asking, *results)
        self._give(node, *results)

    def _give_scale_of(self, turn: _Turn, source: str, *, moves: bool) -> None:
        for key in filter(self._is_float, turn.results):
            self.scale_of[key] = self.scale_of[source]
            self.given[key][turn.node] = None
            if moves:
                self.moved.add(key)

    def _ask(self, node: Node, *keys: str) -> None:
        self._mark(node, keys, self.asked)

    def _give(self, node: Node, *keys: str) -> None:
        self._mark(node, keys, self.given)

    def _mark(self, node: Node, keys: Iterable[str], why: dict[str, dict[Node, None]]) -> None:
        for key in filter(self._is_float, keys):
            self.scale_of.setdefault(key, key)
            why[key][node] = None

    def _is_float(self, key: str) -> bool:
        """Shape arithmetic runs through the same operators; a tensor of unknown type is taken for a float one."""
        known = self.model.types.get(key)
        return (known.elem_type if known else 0) in _FLOATS
