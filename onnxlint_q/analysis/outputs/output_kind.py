"""What each output of a model holds: the scores of classes, of which the largest is the answer, or values.

A matrix `[N, K]` may as well be an embedding or K regressed values, and which entry of those is the largest means
nothing. The file tells by what computes the output, behind whatever only moves, averages or rescales it:

- Softmax or LogSoftmax, also spelt out as `exp(x) / sum`: class scores, unless what it reads is a product of two
  computed values, as the probabilities of attention are;
- a layer (Conv, Gemm, MatMul): taken for logits, as most exports leave the Softmax out; a regressor that ends in a
  plain layer cannot be told from that. A convolution that leaves a picture makes an image or a map, no scores;
- anything else holds values: Sigmoid answers each class by itself, Tanh bounds values, a division by a norm makes an
  embedding, as does a BatchNormalization or an activation other than Relu at the end.

Scores may be one row a sample, `[N, K]`, or one a position, `[N, places, K]`.

An output that joins several things, as heads of detectors do with boxes and scores, has parts (module `joins`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.outputs.joins import joined
from onnxlint_q.graph import Model, Node, Trait, trace_back
from onnxlint_q.graph.operators import Product

# Leave the order of the classes as it is.
_KEEPS_ORDER = Trait.COPIES | Trait.QUANTIZES | Trait.MOVES | Trait.AVERAGES
_OFFSET_OR_FACTOR = Trait.ADDS | Trait.SCALES
# Between the scores of attention and its Softmax.
_ON_THE_WAY = Trait.COPIES | Trait.MOVES | Trait.JOINS | Trait.ADDS | Trait.SCALES | Trait.CHOOSES
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, 0})
_FRACTION = (0.0, 1.0)
# From this opset on Softmax works along the last axis where the file does not say which.
_LAST_AXIS_OPSET = 13


class Holds(StrEnum):
    """What an output holds."""

    CLASS_SCORES = "class scores"
    VALUES = "values"
    NO_FLOATS = "no floats"
    """Integers, truth values, text: nothing that an SQNR can be taken of."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model.

    Attributes:
        name: in the file.
        holds: what.
        axis: of class scores, the axis of the classes where the scores are not `[rows, classes]`; None if they have to
            be.
        fraction: every value lies between 0 and 1, so that zero is where it rests.
        because: what in the file says so, in words; empty where nothing does.
        parts: of an output that joins several things, these, in order along one axis; each is judged by itself.
    """

    name: str
    holds: Holds = Holds.VALUES
    axis: int | None = None
    fraction: bool = False
    because: str = ""
    parts: tuple[Part, ...] = ()

    def parts_of(self, shape: Sequence[int]) -> tuple[Part, ...]:
        """The parts of values of this shape; none where the output is one thing, or is longer than the file says."""
        fit = self.parts and self.parts[0].axis < len(shape) and shape[self.parts[0].axis] == self.parts[-1].stop
        return self.parts if fit else ()

    def scores(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """Class scores as `[rows, classes]`, a row a sample or a position; None where these values cannot be some."""
        if self.holds is not Holds.CLASS_SCORES:
            return None
        if holds_scores(values.shape):
            return values.reshape(values.shape[:2])
        if self.axis is None or values.ndim < 1 or values.shape[self.axis] < 2:
            return None
        return np.moveaxis(values, self.axis, -1).reshape(-1, values.shape[self.axis])


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an output that joins several things.

    Attributes:
        axis: along which it is joined; not negative.
        start, stop: where it is.
        held: what it holds; its name is that of the tensor before it was joined.
    """

    axis: int
    start: int
    stop: int
    held: Output

    def within(self, values: npt.NDArray[Any], lead: int = 0) -> npt.NDArray[Any]:
        """The part of the values of the output, which may have axes of their own in front."""
        return values[(slice(None),) * (lead + self.axis) + (slice(self.start, self.stop),)]


def find_outputs(model: Model) -> tuple[Output, ...]:
    """What each output of the model holds, in their order."""
    return tuple(_with_parts(model, value.name, value.type.elem_type, value.type.shape) for value in model.outputs)


def _with_parts(model: Model, name: str, elem_type: int, shape: Sequence[int | None] | None) -> Output:
    whole = _output(model, name, elem_type, shape)
    if whole.holds is not Holds.VALUES:
        return whole
    held: dict[str, Output] = {}

    def part(tensor: str) -> Output:
        if tensor not in held:
            known = model.types.get(tensor)
            found = _output(model, tensor, known.elem_type if known is not None else 0, model.shape(tensor))
            # The join may have moved the classes to another axis.
            held[tensor] = replace(found, holds=Holds.VALUES, axis=None)
        return held[tensor]

    slices = joined(model, name, lambda tensor: part(tensor).fraction)
    return replace(whole, parts=tuple(Part(one.axis, one.start, one.stop, part(one.tensor)) for one in slices))


def holds_scores(shape: Sequence[int | None]) -> bool:
    """Whether scores of this shape are `[rows, classes]`, then axes of length 1; not where it is open."""
    return len(shape) >= 2 and (shape[1] or 0) >= 2 and all(dim == 1 for dim in shape[2:])


def _output(model: Model, name: str, elem_type: int, shape: Sequence[int | None] | None) -> Output:
    if elem_type not in _FLOATS:
        return Output(name, Holds.NO_FLOATS)

    def through(node: Node) -> tuple[str, ...]:
        operator = node.operator
        if operator.has(Trait.ELEMENTWISE) and operator.has(_OFFSET_OR_FACTOR):
            computed = tuple(key for key in node.inputs if not model.is_constant(key))
            return computed if len(computed) == 1 else ()
        # SqueezeNet puts a Relu and an average behind its last convolution.
        return node.inputs[:1] if operator.has(_KEEPS_ORDER) or (operator.known and operator.name == "Relu") else ()

    trace = trace_back(model, name, through)
    (end,) = trace.ends
    node = model.producer(end)
    if node is None:
        return Output(name)
    axis, exponentials = -1, _spelt_softmax(model, node)
    above = [other for key in trace.tensors if key != end and (other := model.producer(key)) is not None]
    if node.operator.has(Trait.SCORES):
        if not any(other.operator.has(Trait.MOVES) for other in above):
            axis = node.int("axis", -1 if model.opset >= _LAST_AXIS_OPSET else 1)
        scored, because = not _is_attention(model, node.input(0)), _ends_in(node)
    elif exponentials is not None:
        scored, because = not _is_attention(model, exponentials.input(0)), "it ends in a Softmax that is spelt out"
    else:
        scored = _makes_scores(node, shape)
        because = f"{_ends_in(node)} and no Softmax; it may hold other values" if scored else _ends_in(node)
    rescaled = any(other.operator.has(_OFFSET_OR_FACTOR) for other in above)
    fraction = not rescaled and (node.operator.bounds == _FRACTION or exponentials is not None)
    holds = Holds.CLASS_SCORES if scored else Holds.VALUES
    return Output(name, holds, axis if scored else None, fraction, because)


def _ends_in(node: Node) -> str:
    return f"it ends in {node.op_type} {node.label!r}"


def _makes_scores(node: Node, shape: Sequence[int | None] | None) -> bool:
    """A ConvTranspose ends networks that make images, and so does a convolution that leaves a picture.

    What a recurrent operator leaves is a state.
    """
    layer = node.operator.layer
    if layer is None or not layer.is_float or layer.product in {Product.TRANSPOSED, Product.RECURRENT}:
        return False
    return not layer.convolves or shape is None or len(shape) == 2 or holds_scores(shape)


def _is_attention(model: Model, scores: str) -> bool:
    """Whether scores are products of two computed values: how much places look at each other, and no classes."""
    ends = (model.producer(key) for key in trace_back(model, scores, _ON_THE_WAY, model.constants).ends)
    return any(node is not None and multiplies_computed(model, node) for node in ends)


def multiplies_computed(model: Model, node: Node) -> bool:
    """Whether a node is a product of two computed values, as attention is made of."""
    layer = node.operator.layer
    return layer is not None and layer.is_float and not any(model.is_constant(key) for key in node.inputs[:2])


def _spelt_softmax(model: Model, node: Node) -> Node | None:
    """The exponentials of a Softmax that is spelt out, where this division ends one."""
    above = model.producer(node.input(0))
    if node.op_type != "Div" or above is None or above.op_type != "Exp":
        return None
    below = (model.producer(key) for key in trace_back(model, node.input(1), Trait.MOVES | Trait.COPIES).ends)
    sums = {total.input(0) for total in below if total is not None and total.op_type == "ReduceSum"}
    return above if above.output in sums else None
