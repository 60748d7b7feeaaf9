"""Concat: tensors side by side, as many places of each as the others tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd, prod

import numpy as np

from onnxlint_q.forecast.operators.regroup import MAX_DISTINCT, Index
from onnxlint_q.forecast.population import (
    Samples,
    neighbours,
    per_image,
    positions_of,
)
from onnxlint_q.forecast.step import Edge, Site, Step
from onnxlint_q.forecast.transfer import Adjoint, Diagonal, Move, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError, axis_in, bounded

_MOST_PLACES = 64
Back = Callable[[Samples], Samples]
# In so many orders the samples of an image stand for each other.
_ORDERS = 64


def concat(site: Site) -> Step:
    """Tensors side by side along one axis; constants do not vary."""
    node = site.node
    parts: list[Samples] = []
    for position, key in enumerate(node.inputs):
        part = site.known.get(key)
        if part is None:
            value = site.constant(position)
            if value is None:
                raise UnmodelledError("nothing is known of an operand")
            if value.size > MAX_DISTINCT:
                raise UnmodelledError("a constant operand is too large to represent")
            part = np.broadcast_to(value, (site.size, *value.shape))
        parts.append(part)
    rank = parts[0].ndim - 1
    axis = axis_in(node.int("axis", 1), rank)
    if any(part.ndim - 1 != rank for part in parts):
        raise UnmodelledError("its operands have different ranks")
    bounded((len(parts), len(parts)))  # each of the edges below is as long as all parts together
    in_line = _in_line(site, axis, parts)
    if in_line is not None:
        return in_line
    lengths = entries(site, axis, parts)
    frame = tuple(max(part.shape[a + 1] for part in parts) for a in range(rank))
    bounded(tuple(sum(lengths) if a == axis else frame[a] for a in range(rank)))
    pieces, edges, start = list[Samples](), list[Edge](), 0
    for key, part, length in zip(node.inputs, parts, lengths, strict=True):
        piece, adjoint = _widened(part, (*frame[:axis], length, *frame[axis + 1 :]), axis)
        pieces.append(piece)
        if key in site.known:
            edges.append(Edge(key, Adjoint(partial(_pulled_part, adjoint, axis + 1, slice(start, start + length)))))
        start += length
    return Step((np.concatenate(pieces, axis=axis + 1),), tuple(edges))


def _pulled_part(adjoint: Back, axis: int, places: slice, rows: Samples) -> Samples:
    return adjoint(rows[(slice(None),) * axis + (places,)])


def _widened(part: Samples, shape: tuple[int, ...], axis: int) -> tuple[Samples, Back]:
    """An operand with as many places as the others tell apart, and the adjoint of that.

    Along `axis` each of its places stands for a run of the new ones. Along another axis one place stands for all, and
    what it holds at each of them is a sample of the same image, as no two tokens of a sequence are the same.
    """
    index = resampled(np.arange(prod(part.shape[1:]), dtype=np.intp).reshape(part.shape[1:]), shape)
    move = Move(index, part.shape[1:])
    wide = part.reshape(len(part), -1)[:, index.ravel()].reshape(len(part), *shape)
    alike = [a + 1 for a, length in enumerate(shape) if a != axis and part.shape[a + 1] == 1 < length]
    places = prod(wide.shape[a] for a in alike)
    orders = neighbours(min(places, _ORDERS), positions_of(part)) if alike else ()

    def mixed(values: Samples, inverse: int) -> Samples:
        front = np.moveaxis(values, alike, range(1, len(alike) + 1))
        flat = front.reshape(len(part), places, -1)
        found = flat.copy()
        for at, pair in enumerate(orders):
            found[:, at :: len(orders)] = flat[pair[inverse], at :: len(orders)]
        return np.moveaxis(found.reshape(front.shape), range(1, len(alike) + 1), alike)

    return mixed(wide, 0), lambda rows: move.pull(OutputCost(mixed(rows, 1))).rows


def _in_line(site: Site, axis: int, parts: Sequence[Samples]) -> Step | None:
    """Constants in a row with places that positions stand for, as a class token with the patches of a picture.

    None where it is anything else, or there are more places than positions.
    """
    varying = [at for at, key in enumerate(site.node.inputs) if key in site.known]
    if len(varying) != 1 or site.merged(varying[0]) != (axis,):
        return None
    own, samples = varying[0], parts[varying[0]]
    length = site.stands_for(own, axis)
    lengths = [length if at == own else part.shape[axis + 1] for at, part in enumerate(parts)]
    alike = {part.shape[1 : axis + 1] + part.shape[axis + 2 :] for part in parts}
    if sum(lengths) > site.positions or len(alike) > 1:
        return None
    here = np.arange(site.positions) * sum(lengths) // site.positions
    row = [np.repeat(samples[:1], length, axis + 1) if at == own else part[:1] for at, part in enumerate(parts)]
    row_of_constants = np.swapaxes(np.concatenate(row, axis + 1), 0, axis + 1)[here]
    kept = ((here >= sum(lengths[:own])) & (here < sum(lengths[: own + 1]))).reshape(-1, *(1,) * site.rank(own))
    result = np.where(kept, per_image(samples), row_of_constants).reshape(samples.shape)
    slope = np.tile(kept.astype(np.float32), (len(samples) // len(kept), *(1,) * site.rank(own)))
    before = site.shape(site.node.input(own)) or (None,) * site.rank(own)
    after = tuple(sum(lengths) if at == axis else known for at, known in enumerate(before))
    return Step((result,), (Edge(site.node.input(own), Diagonal(slope, samples.shape[1:])),), after)


def resampled(places: Index, shape: Sequence[int]) -> Index:
    """More places along some axes: each of those that are there stands for a run of the new ones."""
    for axis, (have, want) in enumerate(zip(places.shape, shape, strict=True)):
        if have != want:
            places = places.take(np.arange(want) * have // want, axis=axis)
    return places


def entries(site: Site, axis: int, parts: Sequence[Samples]) -> list[int]:
    """How many places each part takes along `axis`.

    One place stands for as many elements as the lengths have as common divisor, where no part tells more apart.
    """
    have = [part.shape[axis + 1] for part in parts]
    shapes = [site.shape(key) for key in site.node.inputs]
    known = [s[axis] if s is not None and len(s) > axis else None for s in shapes]
    lengths = [length or own for length, own in zip(known, have, strict=True)]
    divisor = gcd(*lengths)
    if all(length // divisor >= own for length, own in zip(lengths, have, strict=True)):
        lengths = [length // divisor for length in lengths]
    if max(have) == 1:
        most = max(len(parts), min(_MOST_PLACES, MAX_DISTINCT // 8 * len(parts) // sum(part[0].size for part in parts)))
        if sum(lengths) > most:
            lengths = [max(1, length * most // sum(lengths)) for length in lengths]
    return lengths
