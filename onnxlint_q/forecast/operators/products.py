"""MatMul of two computed tensors: where the tokens of one sequence meet, as in attention.

The positions of an image are tokens of one sequence. A matrix has tokens along an axis of length 1 that stands for many
places, and what becomes of that axis depends on what it meets:

- `Q K^T`: the tokens of the right operand get places of their own along the last axis, as many as an image has
  positions. Each sample, a query, so holds its products with the keys of its own image, and a Softmax goes over them;
- `P V`: such places of keys meet the tokens of the values, position by position;
- `K^T V`: tokens meet tokens, and all of an image are summed up;
- any other: each sample by itself.

A place stands for a run of tokens, so what is summed over places counts as often; white noise averages out over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxlint_q.forecast.population import IMAGES, Samples, finite, per_image
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, unbroadcast
from onnxlint_q.forecast.unmodelled import UnmodelledError, bounded, broadcast

Back = Callable[[Samples], Samples]


@dataclass(frozen=True, slots=True)
class Form:
    """How the samples of an operand are laid out for one product of matrices an image.

    Attributes:
        lay: `[samples, *batch, rows, columns]` to `[images or samples, *batch, rows, columns]`.
        back: the adjoint.
    """

    lay: Back
    back: Back


APART = Form(lambda samples: samples, lambda rows: rows)


def as_rows(height: int) -> Form:
    """The samples of an image below one another, each with its own `height` rows."""

    def lay(samples: Samples) -> Samples:
        stacked = np.moveaxis(per_image(samples), 1, -3)
        return stacked.reshape(*stacked.shape[:-3], -1, stacked.shape[-1])

    def back(rows: Samples) -> Samples:
        stacked = np.moveaxis(rows.reshape(*rows.shape[:-2], -1, height, rows.shape[-1]), -3, 1)
        return stacked.reshape(-1, *stacked.shape[2:])

    return Form(lay, back)


def as_columns(width: int) -> Form:
    """The samples of an image side by side, each with its own `width` columns."""
    rows = as_rows(width)
    return Form(lambda samples: _turned(rows.lay(_turned(samples))), lambda made: _turned(rows.back(_turned(made))))


def _turned(samples: Samples) -> Samples:
    return np.swapaxes(samples, -1, -2)


def as_places(axis: int, places: int, positions: int) -> Form:
    """Of the positions of each image so many along one of the two last axes, which has length 1."""
    chosen = np.arange(places) * positions // places

    def lay(samples: Samples) -> Samples:
        return np.moveaxis(per_image(samples).squeeze(axis)[:, chosen], 1, axis)

    def back(rows: Samples) -> Samples:
        moved = np.moveaxis(rows, axis, 1)
        result = np.zeros((IMAGES, positions, *moved.shape[2:]), np.float32)
        result[:, chosen] = moved
        result = np.expand_dims(result, axis)
        return result.reshape(-1, *result.shape[2:])

    return Form(lay, back)


def one_of(positions: int) -> Form:
    """One result for all samples of an image."""
    return Form(lambda rows: per_image(rows).sum(axis=1), lambda made: np.repeat(made, positions, axis=0))


def product(site: Site) -> Step:
    """MatMul of two computed tensors."""
    left, right = site.samples(0), site.samples(1)
    if left is None or right is None:
        raise UnmodelledError("nothing is known of an operand")
    if left.ndim != right.ndim or left.ndim < 3:
        raise UnmodelledError("its operands are not two stacks of matrices of the same rank")
    if left.shape[-1] != right.shape[-2] and 1 not in {left.shape[-1], right.shape[-2]}:
        raise UnmodelledError(f"its operands do not fit ({left.shape[1:]} and {right.shape[1:]})")
    tokens_left, tokens_right = site.stands_for(0, -1), site.stands_for(1, -2)
    keys = site.stands_for(1, -1)
    height, width, positions = left.shape[-2], right.shape[-1], site.positions
    if tokens_left > 1 and tokens_right > 1:
        places = min(tokens_left, positions)
        forms = as_places(-1, places, positions), as_places(-2, places, positions), one_of(positions)
        terms = tokens_left / places
        shares = 1 / terms, 1 / terms
    elif tokens_right > 1 and left.shape[-1] == min(tokens_right, positions):
        forms = as_rows(height), as_places(-2, left.shape[-1], positions), as_rows(height)
        terms, shares = 1.0, (1.0, 1.0)
    elif tokens_left > 1 and right.shape[-2] == min(tokens_left, positions):
        forms = as_places(-1, right.shape[-2], positions), as_columns(width), as_columns(width)
        terms, shares = 1.0, (1.0, 1.0)
    elif keys > 1:
        places = min(keys, positions)
        forms = as_rows(height), as_places(-1, places, positions), as_rows(height)
        terms = _inner(site, left, right)
        shares = 1.0, 1.0
        width = places
    else:
        forms = APART, APART, APART
        terms = _inner(site, left, right)
        shares = 1.0, 1.0
    bounded((*broadcast(left.shape[1:-2], right.shape[1:-2]), height, width))
    return _multiplied(site, (left, right), forms, np.float32(terms), shares)


def _inner(site: Site, left: Samples, right: Samples) -> float:
    """How many elements meet where one of the samples stands for each pair."""
    inner = max(left.shape[-1], right.shape[-2])
    shape = site.shape(site.node.input(0))
    return float((shape[-1] if shape is not None and shape[-1] else inner) / inner)


def _multiplied(
    site: Site,
    operands: tuple[Samples, Samples],
    forms: tuple[Form, Form, Form],
    terms: np.float32,
    shares: tuple[float, float],
) -> Step:
    """The product of two operands in their forms, times `terms`, brought back from the form of the result."""
    first, second, made = forms
    left, right = first.lay(operands[0]), second.lay(operands[1])
    inner = max(left.shape[-1], right.shape[-2])
    wide_left = np.broadcast_to(left, (*left.shape[:-1], inner))
    wide_right = np.broadcast_to(right, (*right.shape[:-2], inner, right.shape[-1]))
    result = made.back((wide_left @ wide_right) * terms)

    def to_left(rows: Samples) -> Samples:
        back = (made.lay(rows) @ _turned(wide_right)) * terms
        return first.back(unbroadcast(back, left.shape[1:]))

    def to_right(rows: Samples) -> Samples:
        back = (_turned(wide_left) @ made.lay(rows)) * terms
        return second.back(unbroadcast(back, right.shape[1:]))

    keys = site.node.inputs
    edges = Edge(keys[0], Adjoint(to_left, shares[0])), Edge(keys[1], Adjoint(to_right, shares[1]))
    return Step((finite(result),), edges)


RULES: Mapping[str, TransferRule] = {"MatMul": product}
