"""What inputs hold that are no signals: token ids, masks, kinds of tokens.

- An input that picks rows of a constant table, or that is compared with a list of codes, holds ids, of whatever type
  it is: uniform over what is there to pick. Where several tables are picked from, a small one holds what tells tokens
  of a few kinds apart, and all are of the first.
- An input that rules positions out rules out none, in front of a Softmax or as a factor that is zero.
- A list of integers that positions are compared with holds lengths: every sequence is as long as it can be.

The places of a feature map are alike, and a few positions stand for all of them. Tokens that attend to each other are
not: one that stands for three makes every attention softer than it is and every mean over the tokens larger. An error
in front of three attentions then costs 15 dB less than it does (measured on a classifier of 24 tokens). So each token
has a position of its own, as far as there is room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
import onnx

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.outputs.padding import PaddingMask, find_masks
from onnxlint_q.analysis.sizes.usual import OPEN_LENGTH
from onnxlint_q.forecast.population import IMAGES, POSITIONS, Samples
from onnxlint_q.graph import Model, Node, Trait, Value, trace_back, trace_forward
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.settled import Settled
from onnxlint_q.graph.tensors import Array

_INTEGERS = frozenset({onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.UINT8})
_NO_FLOATS = _INTEGERS | {onnx.TensorProto.BOOL}
_FLAGS = _NO_FLOATS | {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
# Some frameworks take every input as floats, and cast those that pick.
_MAY_HOLD_IDS = _FLAGS - {onnx.TensorProto.BOOL}
# On its way an id stays what it is.
_KEPT = Trait.COPIES | Trait.MOVES
_ORDERED = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
# Of sequences of no tokens: samples of a sound, of which some hundred make a frame.
_LONG = 1 << 14
# Kinds of tokens are as many at most: a question and its answer, a few speakers.
_KINDS = 16
_LARGEST = 1 << 16
# Tokens that are represented at most.
_MOST_TOKENS = 24
# Even of a large network; more than of a picture, whose positions are elsewhere in `step.Site.places`.
_FEWEST_TOKENS = POSITIONS + 1
# Weights of a network that is represented by the most tokens; a larger one takes as much time with fewer.
_ROOMY = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What these inputs hold, by name.

    Attributes:
        samples: of ids.
        settled: of what does not vary.
    """

    samples: Mapping[str, Samples] = field(default_factory=dict)
    settled: Mapping[str, Array] = field(default_factory=dict)


def token_inputs(model: Model, positions: int = POSITIONS) -> Tokens:
    """Ids, masks and kinds among the inputs of a model; so many ids an image."""
    flags = {value.name: value for value in model.inputs if _is_small(value) and value.type.elem_type in _FLAGS}
    choices = {name: most for name, value in flags.items() if (most := _choices(model, value))}
    most = max(choices.values(), default=0)
    samples: dict[str, Samples] = {}
    settled: dict[str, Array] = {}
    for seed, (name, rows) in enumerate(choices.items()):
        if rows <= _KINDS < most:
            settled[name] = np.zeros(_shape(flags[name]), np.int64)
            continue
        drawn = np.random.default_rng(seed).integers(0, rows, (IMAGES * positions, *(1,) * len(_shape(flags[name]))))
        samples[name] = drawn.astype(np.float32)
    longest = max((_shape(flags[name])[-1] for name in choices if len(_shape(flags[name])) > 1), default=_LONG)
    for name, value in flags.items():
        if name not in choices and _are_lengths(model, value):
            settled[name] = np.full(_shape(value), longest, _numpy_type(value))
    kept = _masks(model, {name: value for name, value in flags.items() if name not in settled and name not in choices})
    return Tokens(samples, settled | kept)


def positions_for(model: Model, layers: Sequence[FoldedLayer]) -> int:
    """How many positions an image of the population has: as many as there are tokens, within bounds."""
    if any(node.operator.has(Trait.RECURRENT) for node in model.nodes):
        return POSITIONS  # they are walked through one by one
    shapes = [model.shape(node.output) for node in model.nodes if _attends(model, node)]
    longest = max((shape[-1] or _MOST_TOKENS for shape in shapes if shape), default=0)
    weights = sum(prod(folded.layer.weight_shape) for folded in layers)
    room = max(_FEWEST_TOKENS, _MOST_TOKENS * _ROOMY // max(weights, 1))
    return max(POSITIONS, min(longest, _MOST_TOKENS, room))


def _attends(model: Model, node: Node) -> bool:
    """Whether a node makes the weights of a mean over tokens."""
    if not node.operator.has(Trait.SCORES):
        return False
    readers = (reader for key in trace_forward(model, node.output, _KEPT).tensors for reader in model.consumers(key))
    return any(one.op_type == "MatMul" and not any(map(model.is_constant, one.inputs)) for one in readers)


def holds_ids(model: Model, value: Value) -> bool:
    """Whether an input holds ids."""
    return _is_small(value) and _choices(model, value) > 0


def _is_small(value: Value) -> bool:
    shape = value.type.shape
    return bool(shape) and prod(length or OPEN_LENGTH for length in shape or ()) <= _LARGEST


def _shape(value: Value) -> tuple[int, ...]:
    """With the batch of one, and the usual length where nothing is known."""
    shape = value.type.shape or ()
    return tuple(length or (OPEN_LENGTH if axis else 1) for axis, length in enumerate(shape))


def _choices(model: Model, value: Value) -> int:
    """How many ids there are, 0 where the input holds none."""
    if value.type.elem_type not in _MAY_HOLD_IDS:
        return 0
    on_the_way = trace_forward(model, value.name, _KEPT).tensors
    return max((_told_apart(model, node, key) for key in on_the_way for node in model.consumers(key)), default=0)


def _told_apart(model: Model, node: Node, key: str) -> int:
    """How many values of `key` a node tells apart, 0 if it does something else with them."""
    if node.is_standard and node.op_type == "Gather" and key == node.input(1):
        shape = model.shape(node.input(0)) if model.is_constant(node.input(0)) else None
        return (shape[0] or 0) if shape is not None and len(shape) > 1 else 0
    if node.is_standard and node.op_type == "Equal":
        codes = (model.constant(other) for other in node.inputs if model.is_constant(other))
        return next((int(value.size) for value in codes if value is not None and value.size > 1), 0)
    return 0


def _are_lengths(model: Model, value: Value) -> bool:
    """Whether an input has an integer for each sequence that its positions are compared with."""
    if value.type.elem_type not in _INTEGERS or len(_shape(value)) != 1:
        return False
    on_the_way = trace_forward(model, value.name, _KEPT).tensors
    readers = (node for key in on_the_way for node in model.consumers(key))
    return any(
        node.is_standard and node.op_type in _ORDERED and not any(_is_one_number(model, key) for key in node.inputs)
        for node in readers
    )


def _is_one_number(model: Model, key: str) -> bool:
    value = model.constant(key) if model.is_constant(key) else None
    return value is not None and value.size == 1


def _masks(model: Model, flags: Mapping[str, Value]) -> dict[str, Array]:
    """By mask, what it holds where it rules nothing out."""
    kept: dict[str, Array] = {}
    for mask in find_masks(model):
        read = [name for name in mask.inputs if name in flags and name not in kept]
        full, empty = (
            {name: np.full(_shape(flags[name]), flag, _numpy_type(flags[name])) for name in read} for flag in (1, 0)
        )
        counts = [_counts(model, mask, held | kept) for held in (full, empty)]
        if counts == [True, False]:
            kept.update(full)
        elif counts == [False, True]:
            kept.update(empty)
    left = {name: value for name, value in flags.items() if name not in kept and value.type.elem_type in _NO_FLOATS}
    return kept | _factors(model, left)


def _factors(model: Model, flags: Mapping[str, Value]) -> dict[str, Array]:
    """What flags hold where nothing is multiplied by zero, those of which one of their two values does so."""
    found: dict[str, Array] = {}
    for node in model.nodes:
        multiplies = node.is_standard and node.op_type == "Mul" and node.graph == ROOT and len(node.inputs) == 2
        for factor, other in permutations(node.inputs) if multiplies else ():
            ends = trace_back(model, factor, _still_a_flag).ends
            if len(ends) != 1 or ends[0] not in flags or ends[0] in found or model.is_constant(other):
                continue
            name = ends[0]
            held = [np.full(_shape(flags[name]), flag, _numpy_type(flags[name])) for flag in (1, 0)]
            made = [_computed(model, {name: value}, factor) for value in held]
            keeps = [value for value, product in zip(held, made, strict=True) if product is not None and product.any()]
            if len(keeps) == 1:
                (found[name],) = keeps
    return found


def _still_a_flag(node: Node) -> tuple[str, ...]:
    flips = node.is_standard and node.op_type == "Not"
    return node.operator.data_of(node.inputs) if flips or node.operator.has(_KEPT) else ()


def _counts(model: Model, mask: PaddingMask, held: Mapping[str, Array]) -> bool | None:
    """Whether any position counts where inputs hold these values; None where that cannot be told."""
    value = _computed(model, held, mask.tensor)
    return None if value is None else bool(mask.kept(value).any())


def _numpy_type(value: Value) -> np.dtype[Any]:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.elem_type)


def _computed(model: Model, held: Mapping[str, Array], tensor: str) -> Array | None:
    """A tensor of the main graph that what some inputs hold decides."""
    settled = Settled(model, model.shape)
    settled.values.update(held)
    for node in model.nodes:
        settled.add(node)
        if tensor in settled.values:
            break
    return settled.values.get(tensor)
