"""Whether a model's output holds the scores of classes, of which the largest is the answer.

A matrix `[N, K]` may as well be an embedding or K regressed values, and which entry of those is the largest means
nothing. The file tells by what computes the output, behind whatever only moves, averages or rescales it:

- Softmax or LogSoftmax, also spelt out as `exp(x) / sum`: a classifier;
- a layer (Conv, Gemm, MatMul): taken for logits, as most exports leave the Softmax out; a regressor that ends in a
  plain layer cannot be told from that;
- anything else is none: Sigmoid answers each class by itself, Tanh bounds values, a division by a norm makes an
  embedding, as does a BatchNormalization or an activation other than Relu at the end.
"""

from __future__ import annotations

from onnxlint_q.graph import Model, Node, Trait, trace_back
from onnxlint_q.graph.operators import Product

# Leave the order of the classes as it is.
_KEEPS_ORDER = Trait.COPIES | Trait.QUANTIZES | Trait.MOVES | Trait.AVERAGES
_OFFSET_OR_FACTOR = Trait.ADDS | Trait.SCALES


def gives_class_scores(model: Model) -> bool:
    """Whether the model has one output and that holds class scores."""
    if len(model.outputs) != 1:
        return False

    def through(node: Node) -> tuple[str, ...]:
        operator = node.operator
        if operator.has(Trait.ELEMENTWISE) and operator.has(_OFFSET_OR_FACTOR):
            computed = tuple(key for key in node.inputs if not model.is_constant(key))
            return computed if len(computed) == 1 else ()
        # SqueezeNet puts a Relu and an average behind its last convolution.
        return node.inputs[:1] if operator.has(_KEEPS_ORDER) or (operator.known and operator.name == "Relu") else ()

    (end,) = trace_back(model, model.outputs[0].name, through).ends
    node = model.producer(end)
    return node is not None and (node.operator.has(Trait.SCORES) or _is_layer(node) or _is_spelt_softmax(model, node))


def _is_layer(node: Node) -> bool:
    """A ConvTranspose is none: it ends networks that make images."""
    layer = node.operator.layer
    return layer is not None and layer.is_float and layer.product is not Product.TRANSPOSED


def _is_spelt_softmax(model: Model, node: Node) -> bool:
    if node.op_type != "Div":
        return False
    above, below = model.producer(node.input(0)), model.producer(node.input(1))
    return (
        above is not None
        and above.op_type == "Exp"
        and below is not None
        and below.op_type == "ReduceSum"
        and below.input(0) == above.output
    )
