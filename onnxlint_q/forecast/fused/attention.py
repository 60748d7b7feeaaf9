"""Attention and rotary embeddings, written out.

Past keys and values are left out: a sequence is taken from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import onnx

from onnxlint_q.forecast.fused.writer import UnexpandedError, Writer

_LOWEST = float(np.finfo(np.float32).min)


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


def packed_attention(w: Writer) -> None:
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


def attention_of_heads(w: Writer) -> None:
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


def grouped_attention(w: Writer) -> None:
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


def standard_attention(w: Writer) -> None:
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


def rotary(w: Writer) -> None:
    """RotaryEmbedding, of ONNX Runtime and of opset 23."""
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
