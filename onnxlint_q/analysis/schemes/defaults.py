"""Which schemes a network is judged for where none is asked for: those that people run on its kind.

A network works on sequences if it has a recurrent operator, or if weights that are applied position by position make up
at least half of all weights of its layers:

- a matrix that multiplies `[batch, positions, features]`, or a tensor of higher rank;
- the matrices of a fused attention;
- any matrix, once the network has a product of two computed matrices, which is what attention is: exporters flatten
  positions and batch into one axis.

So a convolutional network with a Gemm for its classes is none, however large the Gemm is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from onnxlint_q.analysis.schemes.scheme import Scheme
from onnxlint_q.analysis.schemes.table import INT4_BLOCKS, INT8_DYNAMIC, INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.operators import Trait

DEFAULT_SCHEMES = (INT8_PER_TENSOR, INT8_PER_CHANNEL)
"""Of a convolutional network; both are yardsticks of every report."""
SEQUENCE_SCHEMES = (*DEFAULT_SCHEMES, INT8_DYNAMIC, INT4_BLOCKS)
"""Of a network that works on sequences: a transformer, a recurrent network."""
_ATTENTION = "Attention"
_PRODUCTS = frozenset({"MatMul", "Einsum"})
# Batch, positions and features.
_SEQUENCE_RANK = 3


def default_schemes(model: Model, layers: Iterable[Layer]) -> tuple[Scheme, ...]:
    """The schemes for a network, by what its weights are applied to."""
    return SEQUENCE_SCHEMES if works_on_sequences(model, layers) else DEFAULT_SCHEMES


def works_on_sequences(model: Model, layers: Iterable[Layer]) -> bool:
    """Whether it is recurrent, or at least half of its weights are applied position by position."""
    if any(node.operator.has(Trait.RECURRENT) for node in model.nodes):
        return True
    layers = tuple(layers)
    fused = sum(math.prod(shape) for node in model.nodes if _attends(node) for shape in _matrices(model, node))
    mixes = any(_attends(node) or _is_computed_product(model, node) for node in model.nodes)
    positions = [layer for layer in layers if _reads_positions(model, layer, mixes=mixes)]
    inside, every = (sum(math.prod(layer.weight_shape) for layer in some) for some in (positions, layers))
    return 0 < fused + every <= 2 * (fused + inside)


def _reads_positions(model: Model, layer: Layer, *, mixes: bool) -> bool:
    return not layer.inputs.convolves and (mixes or len(model.shape(layer.input) or ()) >= _SEQUENCE_RANK)


def _attends(node: Node) -> bool:
    """Whether it is a whole attention, fused, by any name that ONNX or ONNX Runtime has for it."""
    return node.op_type.endswith(_ATTENTION)


def _matrices(model: Model, node: Node) -> Iterator[tuple[int, ...]]:
    """Shapes of its constant matrices."""
    for key in filter(None, node.inputs):
        shape = model.shape(key) if model.is_constant(key) else None
        if shape is not None and len(shape) > 1:
            yield tuple(length or 1 for length in shape)


def _is_computed_product(model: Model, node: Node) -> bool:
    """Whether it multiplies two matrices of which none is constant, as an attention does that is spelled out."""
    operands = [key for key in node.inputs if key]
    return node.op_type in _PRODUCTS and len(operands) > 1 and not any(map(model.is_constant, operands))
