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

from onnxlint_q.graph import Model, Node

_SCORES = frozenset({"Softmax", "LogSoftmax"})
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
# Leave the order of the classes as it is; SqueezeNet puts a Relu and an average behind its last convolution.
_KEEPS_ORDER = frozenset(
    {
        "Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Relu",
        "AveragePool", "GlobalAveragePool", "ReduceMean", "QuantizeLinear", "DequantizeLinear",
    }
)  # fmt: skip
_WITH_CONSTANT = frozenset({"Add", "Sub", "Mul", "Div"})
_MOST_STEPS = 16


def gives_class_scores(model: Model) -> bool:
    """Whether the model has one output and that holds class scores."""
    if len(model.outputs) != 1:
        return False
    key = model.outputs[0].name
    for _ in range(_MOST_STEPS):
        node = model.producer(key)
        if node is None or not node.is_standard:
            return False
        if node.op_type in _SCORES or node.op_type in _LAYERS or _is_spelt_softmax(model, node):
            return True
        if node.op_type in _WITH_CONSTANT:
            computed = [name for name in node.inputs if not model.is_constant(name)]
            if len(computed) != 1:
                return False
            key = computed[0]
        elif node.op_type in _KEEPS_ORDER:
            key = node.input(0)
        else:
            return False
    return False


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
