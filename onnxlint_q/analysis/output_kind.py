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

_SCORES = frozenset({"Softmax", "LogSoftmax"})
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
        return node.inputs[:1] if operator.has(_KEEPS_ORDER) or node.op_type == "Relu" else ()

    (end,) = trace_back(model, model.outputs[0].name, through).ends
    node = model.producer(end)
    if node is None or not node.is_standard:
        return False
    layer = node.operator.layer
    return node.op_type in _SCORES or (layer is not None and layer.is_float) or _is_spelt_softmax(model, node)


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
