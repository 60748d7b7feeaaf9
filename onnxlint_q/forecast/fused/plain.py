"""Normalisations, activations, embeddings and products of ONNX Runtime and of new opsets, written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt

import numpy as np

from onnxlint_q.forecast.fused.writer import UnexpandedError, Writer


def layer_normalisation(w: Writer) -> None:
    """LayerNormalization before opset 17, where inference does not know it."""
    if w.node.int("axis", -1) != -1:
        raise UnexpandedError
    w.result(w.layer_norm(w.node.input(0), w.node.input(1), w.node.input(2), w.node.float("epsilon", 1e-5)))


def rms_normalisation(w: Writer) -> None:
    """RMSNormalization and SimplifiedLayerNormalization."""
    if w.node.int("axis", -1) != -1:
        raise UnexpandedError
    w.result(w.rms_norm(w.node.input(0), w.node.input(1), w.node.float("epsilon", 1e-5)))


def skip_normalisation(w: Writer) -> None:
    """SkipLayerNormalization and SkipSimplifiedLayerNormalization: a sum, then the normalisation of it."""
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


def gelu(w: Writer) -> None:
    """Gelu, BiasGelu and FastGelu."""
    value = w.op("Add", w.node.input(0), w.node.input(1)) if w.has(1) else w.node.input(0)
    if w.node.op_type == "FastGelu":
        cube = w.op("Mul", value, w.op("Mul", value, value))
        inner = w.op("Add", value, w.op("Mul", cube, w.constant(0.044715)))
        curve = w.op("Tanh", w.op("Mul", inner, w.constant(sqrt(2 / np.pi))))
    else:
        curve = w.op("Erf", w.op("Div", value, w.constant(sqrt(2))))
    w.result(w.op("Mul", w.op("Mul", value, w.op("Add", curve, w.constant(1.0))), w.constant(0.5)))


def quick_gelu(w: Writer) -> None:
    """QuickGelu: `x sigmoid(alpha x)`."""
    value = w.node.input(0)
    w.result(w.op("Mul", value, w.op("Sigmoid", w.op("Mul", value, w.constant(w.node.float("alpha", 1.702))))))


def embedding(w: Writer) -> None:
    """EmbedLayerNormalization: rows of up to three tables, summed and normalised."""
    ids, kinds, words, places, kind_table, gain, shift = (w.node.input(slot) for slot in range(7))
    at = w.node.input(8) or w.places(ids, 1)
    total = w.op("Add", w.op("Gather", words, ids), w.op("Gather", places, at))
    if kinds and kind_table:
        total = w.op("Add", total, w.op("Gather", kind_table, kinds))
    w.result(w.layer_norm(total, gain, shift, w.node.float("epsilon", 1e-12)))
    if len(w.node.outputs) > 1 and w.node.outputs[1]:
        w.op("Shape", ids, called=w.node.outputs[1])
    w.result(total, 2)


def fused_product(w: Writer) -> None:
    """FusedMatMul: a product of matrices that may be turned, times a number."""
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


def einsum(w: Writer) -> None:
    """Two operands, each axis of which is in the result or in both, as one product of matrices."""
    terms, _, made = w.node.text("equation", "").replace(" ", "").partition("->")
    letters = terms.split(",")
    left, right = letters if len(letters) == 2 and made else ("", "")
    plain = (
        len(w.node.inputs) == 2
        and left
        and all(len(set(term)) == len(term) and term.isalpha() for term in (left, right, made))
    )
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
