"""What an activation is in its network, so that tensors with something in common can be told together."""

from __future__ import annotations

from enum import StrEnum

from onnxlint_q.graph import Model, Node, Trait, trace_forward

_PASSED = Trait.COPIES | Trait.MOVES


class TensorRole(StrEnum):
    """A kind of tensor, as several of it are called."""

    WEIGHT = "weights"
    INPUT = "inputs of the model"
    OUTPUT = "outputs of the model"
    SOFTMAX_INPUT = "inputs of Softmax"
    SUM = "sums of branches"
    PRODUCT = "products of computed values"
    NORMALISED = "results of normalisations"
    LAYER = "results of layers"
    FUNCTION = "results of activation functions"
    OTHER = "results of other operators"


def role_of(model: Model, tensor: str, *, of_layer: bool) -> TensorRole:
    """What an activation is, by what makes it and what reads it.

    Args:
        model: the graph.
        tensor: its key.
        of_layer: it holds the result of a layer.
    """
    node = model.producer(tensor)
    if node is None:
        return TensorRole.INPUT
    readers = (reader for key in trace_forward(model, tensor, _PASSED).tensors for reader in model.consumers(key))
    if any(reader.operator.has(Trait.SCORES) for reader in readers):
        return TensorRole.SOFTMAX_INPUT
    if any(value.name == tensor for value in model.outputs):
        return TensorRole.OUTPUT
    if of_layer:
        return TensorRole.LAYER
    operator = node.operator
    if operator.has(Trait.NORMALISES):
        return TensorRole.NORMALISED
    if _computed(model, node) > 1 and (operator.layer is not None or operator.has(Trait.SCALES)):
        return TensorRole.PRODUCT
    if _computed(model, node) > 1 and operator.has(Trait.ADDS):
        return TensorRole.SUM
    return TensorRole.FUNCTION if operator.has(Trait.ACTIVATION) else TensorRole.OTHER


def _computed(model: Model, node: Node) -> int:
    """How many different inputs are computed."""
    return len({key for key in node.inputs if key and not model.is_constant(key)})
