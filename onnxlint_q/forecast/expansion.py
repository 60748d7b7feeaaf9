"""Fused operators of ONNX Runtime and of new opsets as the graphs that they stand for.

The forecast has rules for plain operators only. A fused one is written out as such in front of it, so that a fused and
an unfused file are told the same. What is written out has the results of the operator under their own names.

Sources: the ONNX operator specification, and ContribOperators.md of ONNX Runtime. Past keys and values are left out:
a sequence is taken from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

import numpy as np
import onnx

from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.loading.build import rebuilt
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import MICROSOFT
from onnxlint_q.graph.tensors import Array

_LOWEST = float(np.finfo(np.float32).min)
# From these opsets on the operator exists, or takes its axes as an input.
_LAYER_NORM_OPSET, _REDUCE_OPSET = 17, 18


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """A model without fused operators.

    Attributes:
        model: the graph.
        products: by result of an operator that held a weight, the tensor that input and weight are multiplied to.
    """

    model: Model
    products: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Writer:
    """Writes the nodes that one operator stands for."""

    model: Model
    node: Node
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    products: dict[str, str] = field(default_factory=dict)

    def fresh(self) -> str:
        """A name that nothing has."""
        return f"{self.node.output}//{len(self.nodes)}.{len(self.constants)}"

    def constant(self, value: Any) -> str:
        """A constant; a float becomes float32, anything whole int64."""
        array: Array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = self.fresh()
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, op_type: str, *inputs: str, called: str = "", **attributes: Any) -> str:
        """A node of the default domain; gives the name of its result."""
        result = called or self.fresh()
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [result], **attributes))
        return result

    def result(self, value: str, slot: int = 0) -> None:
        """Give a result of the operator its name; nothing if it is not asked for."""
        if slot < len(self.node.outputs) and self.node.outputs[slot]:
            self.op("Identity", value, called=self.node.outputs[slot])

    def has(self, slot: int) -> bool:
        """Whether an input is there."""
        return bool(self.node.input(slot))

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape, 0 for a length that stays and -1 for the rest."""
        return self.op("Reshape", value, self.constant(shape))

    def part(self, value: str, start: int, end: int, axis: int = -1, step: int = 1) -> str:
        """A range along an axis."""
        bounds = (self.constant([bound]) for bound in (start, end, axis, step))
        return self.op("Slice", value, *bounds)

    def length(self, value: str, axis: int) -> str:
        """The length of an axis, as a list of one."""
        return self.op("Gather", self.op("Shape", value), self.constant([axis]))

    def places(self, value: str, axis: int) -> str:
        """0, 1, 2 … along an axis."""
        end = self.op("Reshape", self.length(value, axis), self.constant(np.zeros(0, np.int64)))
        return self.op("Range", self.constant(0), end, self.constant(1))

    def multiplied(self, value: str, slot: int) -> str:
        """The product with the weight in a slot, which the operator is a layer for."""
        product = self.op("MatMul", value, self.node.input(slot))
        self.products[self.node.output] = product
        return product

    def mean(self, value: str) -> str:
        """Over the last axis, which stays with length 1."""
        if self.model.opset >= _REDUCE_OPSET:
            return self.op("ReduceMean", value, self.constant([-1]), keepdims=1)
        return self.op("ReduceMean", value, axes=[-1], keepdims=1)

    def rms_norm(self, value: str, gain: str, epsilon: float) -> str:
        """Over its root mean square."""
        size = self.op("Sqrt", self.op("Add", self.mean(self.op("Mul", value, value)), self.constant(epsilon)))
        unit = self.op("Div", value, size)
        return self.op("Mul", unit, gain) if gain else unit

    def layer_norm(self, value: str, gain: str, shift: str, epsilon: float) -> str:
        """Less its mean, over its deviation."""
        if self.model.opset >= _LAYER_NORM_OPSET:
            inputs = [value, gain, shift] if shift else [value, gain]
            return self.op("LayerNormalization", *inputs, epsilon=epsilon)
        scaled = self.rms_norm(self.op("Sub", value, self.mean(value)), gain, epsilon)
        return self.op("Add", scaled, shift) if shift else scaled

    def width(self, key: str) -> int:
        """Length of the last axis, 0 where it is not known."""
        shape = self.model.shape(key)
        return (shape[-1] or 0) if shape else 0


class UnexpandedError(Exception):
    """An operator is used in a way that is not written out."""


def expanded(model: Model) -> Expansion:
    """The model with every fused operator of its main graph written out; the same one where there is none."""
    if not any(_rule(model, node) for node in model.nodes):
        return Expansion(model)
    by_output = {node.output: node for node in model.nodes if node.graph == ROOT and _rule(model, node) is not None}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    products: dict[str, str] = {}
    for proto in model.proto.graph.node:
        node = by_output.get(next(filter(None, proto.output), ""))
        writer = None if node is None else _written(model, node)
        if writer is None:
            nodes.append(proto)
            continue
        nodes += writer.nodes
        constants += writer.constants
        products |= writer.products
    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    changed.graph.ClearField("node")
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(constants)
    return Expansion(rebuilt(model, changed), products)


def _rule(model: Model, node: Node) -> Rule | None:
    rule = _RULES.get((("" if node.is_standard else node.domain), node.op_type))
    known = rule is _layer_normalisation and model.opset >= _LAYER_NORM_OPSET
    return None if known else rule


def _written(model: Model, node: Node) -> Writer | None:
    writer, rule = Writer(model, node), _rule(model, node)
    if rule is None:
        return None
    try:
        rule(writer)
    except UnexpandedError:
        return None
    return writer


# -- normalisations and activations ----------------------------------------------------------------------------------


def _layer_normalisation(w: Writer) -> None:
    if w.node.int("axis", -1) != -1:
        raise UnexpandedError
    w.result(w.layer_norm(w.node.input(0), w.node.input(1), w.node.input(2), w.node.float("epsilon", 1e-5)))


def _rms_normalisation(w: Writer) -> None:
    if w.node.int("axis", -1) != -1:
        raise UnexpandedError
    w.result(w.rms_norm(w.node.input(0), w.node.input(1), w.node.float("epsilon", 1e-5)))


def _skip_normalisation(w: Writer) -> None:
    simplified = w.node.op_type == "SkipSimplifiedLayerNormalization"
    total = w.op("Add", w.node.input(0), w.node.input(1))
    bias = 3 if simplified else 4
    if w.has(bias):
        total = w.op("Add", total, w.node.input(bias))
    epsilon = w.node.float("epsilon", 1e-12)
    shift = "" if simplified else w.node.input(3)
    norm = w.rms_norm if simplified else None
    gain = w.node.input(2)
    w.result(norm(total, gain, epsilon) if norm is not None else w.layer_norm(total, gain, shift, epsilon))
    w.result(total, 3)


def _gelu(w: Writer) -> None:
    value = w.op("Add", w.node.input(0), w.node.input(1)) if w.has(1) else w.node.input(0)
    if w.node.op_type == "FastGelu":
        cube = w.op("Mul", value, w.op("Mul", value, value))
        inner = w.op("Add", value, w.op("Mul", cube, w.constant(0.044715)))
        curve = w.op("Tanh", w.op("Mul", inner, w.constant(sqrt(2 / np.pi))))
    else:
        curve = w.op("Erf", w.op("Div", value, w.constant(sqrt(2))))
    w.result(w.op("Mul", w.op("Mul", value, w.op("Add", curve, w.constant(1.0))), w.constant(0.5)))


def _quick_gelu(w: Writer) -> None:
    value = w.node.input(0)
    w.result(w.op("Mul", value, w.op("Sigmoid", w.op("Mul", value, w.constant(w.node.float("alpha", 1.702))))))


def _embedding(w: Writer) -> None:
    ids, kinds, words, places, kind_table, gain, shift = (w.node.input(slot) for slot in range(7))
    at = w.node.input(8) or w.places(ids, 1)
    total = w.op("Add", w.op("Gather", words, ids), w.op("Gather", places, at))
    if kinds and kind_table:
        total = w.op("Add", total, w.op("Gather", kind_table, kinds))
    w.result(w.layer_norm(total, gain, shift, w.node.float("epsilon", 1e-12)))
    if len(w.node.outputs) > 1 and w.node.outputs[1]:
        w.op("Shape", ids, called=w.node.outputs[1])
    w.result(total, 2)


def _fused_product(w: Writer) -> None:
    operands = []
    for slot, name in enumerate(("transA", "transB")):
        key, shape = w.node.input(slot), w.model.shape(w.node.input(slot))
        if w.node.int(name.replace("trans", "transBatch"), 0) or (w.node.int(name, 0) and shape is None):
            raise UnexpandedError
        if w.node.int(name, 0) and shape is not None:
            rank = len(shape)
            key = w.op("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(key)
    product = w.op("MatMul", *operands)
    if w.model.is_constant(w.node.input(1)):
        w.products[w.node.output] = product
    w.result(w.op("Mul", product, w.constant(w.node.float("alpha", 1.0))))


def _einsum(w: Writer) -> None:
    """Two operands, each axis of which is in the result or in both, as one product of matrices."""
    terms, _, made = w.node.text("equation", "").replace(" ", "").partition("->")
    letters = terms.split(",")
    left, right = letters if len(letters) == 2 and made else ("", "")
    plain = left and all(len(set(term)) == len(term) and term.isalpha() for term in (left, right, made))
    if not plain or set(left) ^ set(right) != set(made) - (set(left) & set(right)):
        raise UnexpandedError
    batch = [one for one in made if one in left and one in right]
    rows, columns = ([one for one in made if one in term and one not in batch] for term in (left, right))
    inner = [one for one in left if one in right and one not in made]
    length: dict[str, int] = {}
    for term, key in zip((left, right), w.node.inputs, strict=True):
        length |= {one: n for one, n in zip(term, w.model.shape(key) or (), strict=False) if n}
    operands = (
        _regrouped(w, w.node.input(slot), term, batch, groups, length)
        for slot, term, groups in ((0, left, (rows, inner)), (1, right, (inner, columns)))
    )
    product = w.op("MatMul", *operands)
    if not len(rows) == len(columns) == 1:
        product = w.reshape(product, *_one_open([0] * len(batch) + [length.get(one, -1) for one in (*rows, *columns)]))
    order = [*batch, *rows, *columns]
    w.result(w.op("Transpose", product, perm=[order.index(one) for one in made]))


def _regrouped(
    w: Writer,
    key: str,
    term: str,
    batch: Sequence[str],
    groups: tuple[Sequence[str], Sequence[str]],
    length: Mapping[str, int],
) -> str:
    """An operand with its batch in front and one axis for each of two groups of axes."""
    moved = w.op("Transpose", key, perm=[term.index(one) for one in (*batch, *groups[0], *groups[1])])
    if len(groups[0]) == len(groups[1]) == 1:
        return moved
    sizes = [prod(length[one] for one in group) if length.keys() >= set(group) else -1 for group in groups]
    return w.reshape(moved, *_one_open([0] * len(batch) + sizes))


def _one_open(shape: Sequence[int]) -> Sequence[int]:
    if shape.count(-1) > 1:
        raise UnexpandedError
    return shape


# -- attention -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heads:
    """How vectors over channels are split: `queries` heads read `keys` heads; a query has `size` channels."""

    queries: int
    keys: int
    size: int
    scale: float


def _apart(w: Writer, value: str, heads: int) -> str:
    """`[batch, tokens, channels]` to `[batch, heads, tokens, channels of a head]`."""
    return w.op("Transpose", w.reshape(value, 0, 0, heads, -1), perm=[0, 2, 1, 3])


def _attend(w: Writer, query: str, key: str, value: str, heads: Heads, bias: Sequence[str], causal: bool) -> str:
    """Attention of `[batch, heads, tokens, channels]`, to the same shape."""
    shared = heads.queries // heads.keys
    turned = w.op("Transpose", key, perm=[0, 1, 3, 2])
    if shared > 1:  # a head of keys and values serves several of queries
        query = w.reshape(query, 0, heads.keys, shared, -1, heads.size)
        turned, value = w.reshape(turned, 0, 0, 1, heads.size, -1), w.reshape(value, 0, 0, 1, -1, heads.size)
    scores = w.op("Mul", w.op("MatMul", query, turned), w.constant(heads.scale))
    if shared > 1 and bias:
        raise UnexpandedError
    if causal:
        at = [
            w.op("Reshape", w.places(scores, axis), w.constant(shape)) for axis, shape in ((-2, [-1, 1]), (-1, [1, -1]))
        ]
        scores = w.op("Add", scores, w.op("Where", w.op("Less", *at), w.constant(_LOWEST), w.constant(0.0)))
    for one in bias:
        scores = w.op("Add", scores, one)
    mixed = w.op("MatMul", w.op("Softmax", scores, axis=-1), value)
    return w.reshape(mixed, 0, heads.queries, -1, heads.size) if shared > 1 else mixed


def _joined(w: Writer, mixed: str) -> str:
    """`[batch, heads, tokens, channels of a head]` to `[batch, tokens, channels]`."""
    return w.reshape(w.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, -1)


def _padding(w: Writer, slot: int) -> list[str]:
    """A mask of ones where a token counts, as what is added; one of lengths rules nothing out."""
    shape = w.model.shape(w.node.input(slot)) if w.has(slot) else None
    if shape is None or len(shape) != 2:
        return []
    out = w.op("Sub", w.constant(1.0), w.op("Cast", w.node.input(slot), to=onnx.TensorProto.FLOAT))
    return [w.reshape(w.op("Mul", out, w.constant(-10000.0)), 0, 1, 1, -1)]


def _heads(w: Writer, width: int, queries: int, keys: int = 0) -> Heads:
    if not width or queries < 1 or width % queries or (keys and queries % keys):
        raise UnexpandedError
    size = width // queries
    return Heads(queries, keys or queries, size, w.node.float("scale", 0.0) or 1 / sqrt(size))


def _packed_attention(w: Writer) -> None:
    """Attention of com.microsoft: one weight for queries, keys and values."""
    sizes = w.node.ints("qkv_hidden_sizes") or (w.width(w.node.input(1)) // 3,) * 3
    heads = _heads(w, sizes[0], w.node.int("num_heads", 0))
    packed = w.multiplied(w.node.input(0), 1)
    if w.has(2):
        packed = w.op("Add", packed, w.node.input(2))
    ends = np.cumsum(sizes).tolist()
    query, key, value = (
        _apart(w, w.part(packed, end - size, end), heads.queries) for end, size in zip(ends, sizes, strict=True)
    )
    bias = [*_padding(w, 3), *([w.node.input(5)] if w.has(5) else [])]
    w.result(_joined(w, _attend(w, query, key, value, heads, bias, bool(w.node.int("unidirectional", 0)))))
    if len(w.node.outputs) > 1 and w.node.outputs[1]:
        w.result(
            w.op("Concat", *(w.reshape(one, 1, 0, heads.queries, -1, heads.size) for one in (key, value)), axis=0), 1
        )


def _attention_of_heads(w: Writer) -> None:
    """MultiHeadAttention."""
    if (
        not (w.has(1) and w.has(2))
        or w.has(6)
        or any(len(w.model.shape(w.node.input(n)) or (0,) * 3) != 3 for n in range(3))
    ):
        raise UnexpandedError
    parts = [w.node.input(slot) for slot in range(3)]
    width = w.width(parts[0]) or (w.width(w.node.input(3)) // 3 if w.has(3) else 0)
    heads = _heads(w, width, w.node.int("num_heads", 0))
    if w.has(3):
        ends = [width, 2 * width, w.width(w.node.input(3))]
        starts = [0, *ends[:2]]
        biases = [w.part(w.node.input(3), start, end) for start, end in zip(starts, ends, strict=True)]
        parts = [w.op("Add", part, bias) for part, bias in zip(parts, biases, strict=True)]
    query, key, value = (_apart(w, part, heads.queries) for part in parts)
    bias = [*_padding(w, 4), *([w.node.input(5)] if w.has(5) else [])]
    w.result(_joined(w, _attend(w, query, key, value, heads, bias, bool(w.node.int("unidirectional", 0)))))
    w.result(key, 1)
    w.result(value, 2)


def _grouped_attention(w: Writer) -> None:
    """GroupQueryAttention, in which a token sees itself and what is before it."""
    queries, keys = w.node.int("num_heads", 0), w.node.int("kv_num_heads", 0)
    width = w.width(w.node.input(0))
    if not w.has(1) and queries + 2 * keys:
        width = width * queries // (queries + 2 * keys)
    heads = _heads(w, width, queries, keys)
    parts = [w.node.input(slot) for slot in range(3)]
    if not w.has(1):
        ends = [width, width + keys * heads.size, width + 2 * keys * heads.size]
        parts = [w.part(parts[0], start, end) for start, end in zip([0, *ends[:2]], ends, strict=True)]
    query, key, value = (_apart(w, part, n) for part, n in zip(parts, (queries, keys, keys), strict=True))
    if w.node.int("do_rotary", 0):
        tables = [w.op("Gather", w.node.input(slot), w.places(w.node.input(0), 1)) for slot in (7, 8)]
        query, key = (_turned(w, one, tables[0], tables[1], heads.size) for one in (query, key))
    w.result(_joined(w, _attend(w, query, key, value, heads, [], causal=True)))
    w.result(key, 1)
    w.result(value, 2)


def _standard_attention(w: Writer) -> None:
    """Attention of the default domain."""
    shapes = [w.model.shape(w.node.input(slot)) for slot in range(3)]
    ranks = {len(shape) for shape in shapes if shape is not None}
    if None in shapes or len(ranks) != 1 or w.node.float("softcap", 0.0) or w.has(4):
        raise UnexpandedError
    parts = [w.node.input(slot) for slot in range(3)]
    if ranks == {3}:
        queries, keys = w.node.int("q_num_heads", 0), w.node.int("kv_num_heads", 0)
        heads = _heads(w, w.width(parts[0]), queries, keys)
        parts = [_apart(w, part, n) for part, n in zip(parts, (queries, keys, keys), strict=True)]
    else:
        queries, keys = ((shape[1] or 0) if shape else 0 for shape in shapes[:2])
        heads = _heads(w, w.width(parts[0]) * queries, queries, keys)
    bias = []
    if w.has(3):
        known = w.model.types.get(w.node.input(3))
        flags = known is not None and known.elem_type == onnx.TensorProto.BOOL
        mask = w.node.input(3)
        bias = [w.op("Where", mask, w.constant(0.0), w.constant(_LOWEST)) if flags else mask]
    mixed = _attend(w, parts[0], parts[1], parts[2], heads, bias, bool(w.node.int("is_causal", 0)))
    w.result(_joined(w, mixed) if ranks == {3} else mixed)
    w.result(parts[1], 1)
    w.result(parts[2], 2)


# -- rotary embeddings -----------------------------------------------------------------------------------------------


def _turned(w: Writer, value: str, cosines: str, sines: str, size: int) -> str:
    """Pairs of channels turned by an angle that grows with the position: `[batch, heads, tokens, channels]`.

    Where pairs are neighbours they are put apart: keys and queries are, and their products stay what they are.
    """
    dims = 2 * w.width(w.node.input(7 if w.node.op_type == "GroupQueryAttention" else _rotary_slots(w)[0]))
    if not dims or dims > size:
        raise UnexpandedError
    half = dims // 2
    if w.node.int("interleaved", w.node.int("rotary_interleaved", 0)):
        first, second = (w.part(value, start, dims, step=2) for start in (0, 1))
    else:
        first, second = w.part(value, 0, half), w.part(value, half, dims)
    real = w.op("Sub", w.op("Mul", first, cosines), w.op("Mul", second, sines))
    imaginary = w.op("Add", w.op("Mul", first, sines), w.op("Mul", second, cosines))
    rest = [w.part(value, dims, size)] if dims < size else []
    return w.op("Concat", real, imaginary, *rest, axis=-1)


def _rotary_slots(w: Writer) -> tuple[int, int, int]:
    """Of cosines, sines and positions."""
    return (1, 2, 3) if w.node.is_standard else (2, 3, 1)


def _rotary(w: Writer) -> None:
    value, shape = w.node.input(0), w.model.shape(w.node.input(0))
    cosines, sines, positions = _rotary_slots(w)
    if shape is None or len(shape) not in {3, 4}:
        raise UnexpandedError
    width, heads = w.width(value), w.node.int("num_heads", 0)
    apart = len(shape) == 3
    if apart and (not heads or width % heads):
        raise UnexpandedError
    at = w.places(value, 1 if apart else 2)
    known = w.model.shape(w.node.input(positions)) if w.has(positions) else None
    if known is not None and len(known) == 2:
        at = w.node.input(positions)
    tables = [w.op("Gather", w.node.input(slot), at) for slot in (cosines, sines)]
    if known is not None and len(known) == 2:  # one row of positions for each sequence, alike for all heads
        half = w.width(w.node.input(cosines))
        tables = [w.reshape(table, 0, 1, -1, half) for table in tables]
    size = width // heads if apart else width
    turned = _turned(w, _apart(w, value, heads) if apart else value, tables[0], tables[1], size)
    w.result(_joined(w, turned) if apart else turned)


Rule = Callable[[Writer], None]
_RULES: Mapping[tuple[str, str], Rule] = {
    ("", "LayerNormalization"): _layer_normalisation,
    ("", "SimplifiedLayerNormalization"): _rms_normalisation,
    ("", "RMSNormalization"): _rms_normalisation,
    ("", "Einsum"): _einsum,
    ("", "Attention"): _standard_attention,
    ("", "RotaryEmbedding"): _rotary,
    (MICROSOFT, "SkipLayerNormalization"): _skip_normalisation,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_normalisation,
    (MICROSOFT, "EmbedLayerNormalization"): _embedding,
    (MICROSOFT, "Gelu"): _gelu,
    (MICROSOFT, "BiasGelu"): _gelu,
    (MICROSOFT, "FastGelu"): _gelu,
    (MICROSOFT, "QuickGelu"): _quick_gelu,
    (MICROSOFT, "FusedMatMul"): _fused_product,
    (MICROSOFT, "Attention"): _packed_attention,
    (MICROSOFT, "MultiHeadAttention"): _attention_of_heads,
    (MICROSOFT, "GroupQueryAttention"): _grouped_attention,
    (MICROSOFT, "RotaryEmbedding"): _rotary,
}
