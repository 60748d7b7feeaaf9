"""Operators that average, pick, normalise or multiply over places or channels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from onnxlint_q.analysis.sizes.usual import LAST_SIDE, OPEN_LENGTH
from onnxlint_q.forecast.population import (
    Samples,
    finite,
    image_mean,
    neighbour,
    neighbours,
    positions_of,
    read_taps,
    standardised,
    write_taps,
)
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, Diagonal, Taps, unbroadcast
from onnxlint_q.forecast.unmodelled import UnmodelledError, axes_in, axis_in, broadcast

_MAX_TAPS = 9
# Share, in decibels, of what a signal is too large by that the errors in it are too large by. Compared on 51 networks:
# none of it ranks layers as well but puts the errors 10 dB too high in small networks, all of it ranks those worse.
_TAKEN_BACK = 2 / 3
# Mean probability that a trained classifier gives its first class. Three networks of 1000 classes give 0.64, 0.71 and
# 0.82 on photographs that they may have seen in training; on others it is less, but hardly less than the share that
# they get right (Guo et al. 2017), which is 0.5 to 0.75 for such networks.
_SURE = 0.65
# A lead of so many units leaves all others together less than a millionth, for any number of classes.
_FAR_AHEAD = 32.0


def batch_norm(site: Site) -> Step:
    """`y = gamma (x - mean) / sqrt(var + eps) + beta`.

    The node says what it saw in training, and the population is set to it: after it the mean is beta and the variance
    gamma² var / (var + eps), whatever the forward pass had made of the values before.

    An error goes the way of the population. Where that varied more than was recorded (its kernels read too uneven an
    image, or the channel is dead in truth), the error is too large as well, if less so. Where it varied less, training
    has aligned the weights with the signal, not with errors, and the slope is the node's own.
    """
    samples = site.varying()
    parameters = [site.constant(index) for index in range(1, 5)]
    if any(p is None for p in parameters):
        raise UnmodelledError("its parameters are computed")
    wide = (1, -1, *(1,) * (samples.ndim - 3))
    gamma, beta, _, var = (np.asarray(p.reshape(wide), np.float32) for p in parameters if p is not None)
    broadcast(samples.shape[1:], *(p.shape[1:] for p in (gamma, beta, var)))
    gain = gamma / np.sqrt(np.maximum(var, 0) + site.node.float("epsilon", 1e-5))
    spread, recorded = samples.std(axis=0), np.sqrt(np.maximum(var, 0))
    made = standardised(samples, spread)
    made *= gain * recorded
    made += beta
    result = finite(made)
    slope = gain * np.minimum(recorded / np.maximum(spread, 1e-20), 1) ** _TAKEN_BACK
    edge = Edge(site.node.input(0), Diagonal(np.broadcast_to(slope, result.shape), result.shape[1:]))
    return Step((result,), (edge,))


def average(site: Site, axes: tuple[int, ...], *, keep: bool = True, total: bool = False) -> Step:
    """Mean, or sum, over some axes; along an axis without places of its own, over the positions of an image."""
    samples = site.varying()
    rank = samples.ndim - 1
    axes = axes_in(axes, rank)
    inner = tuple(a + 1 for a in axes)
    places = int(np.prod([samples.shape[a] for a in inner]))
    elements = max(site.count(0, axes, LAST_SIDE), places)
    pooled = elements > places
    scale = np.float32(elements if total else 1)
    mean = samples.mean(axis=inner, keepdims=True) * scale
    mean = image_mean(mean) if pooled else mean
    kept, before = mean.shape[1:], samples.shape
    shape = kept if keep else tuple(n for a, n in enumerate(kept) if a not in axes)

    def back(rows: Samples) -> Samples:
        rows = rows.reshape(len(rows), *kept) * (scale / np.float32(places))
        return np.broadcast_to(image_mean(rows) if pooled else rows, before)

    share = min(site.positions * places / elements, 1.0) if pooled else 1.0
    return Step((finite(mean).reshape(len(mean), *shape),), (Edge(site.node.input(0), Adjoint(back, share)),))


def reduce(site: Site) -> Step:
    """ReduceMean and ReduceSum."""
    axes = site.integers(1, "axes") or tuple(range(site.rank()))
    keep = bool(site.node.int("keepdims", 1))
    return average(site, axes, keep=keep, total=site.node.op_type == "ReduceSum")


def extreme(site: Site) -> Step:
    """ReduceMax and ReduceMin: one place along the axes is picked, and an error comes from that one.

    Along axes without places of their own, the picked one is the most extreme position of the image.
    """
    samples = site.varying()
    rank = site.rank()
    axes = axes_in(site.integers(1, "axes") or range(rank), rank)
    sign = np.float32(1 if site.node.op_type == "ReduceMax" else -1)
    rest = tuple(a for a in range(rank) if a not in axes)
    places = int(np.prod([samples.shape[a + 1] for a in axes]))
    pooled = places == 1 and site.count(0, axes, LAST_SIDE) > 1
    # [images or samples, rest, picked from]
    lead = (-1, site.positions) if pooled else (len(samples), 1)
    split = samples.reshape(*lead, *samples.shape[1:])
    ordered = split.transpose(0, *(a + 2 for a in rest), 1, *(a + 2 for a in axes))
    flat = ordered.reshape(*ordered.shape[: len(rest) + 1], -1)
    picked = (flat * sign).argmax(axis=-1)[..., None]
    found = np.take_along_axis(flat, picked, axis=-1)[..., 0]
    kept = tuple(1 if a in axes else samples.shape[a + 1] for a in range(rank))
    shape = kept if site.node.int("keepdims", 1) else tuple(samples.shape[a + 1] for a in rest)

    def back(rows: Samples) -> Samples:
        here = rows.reshape(*lead, *found.shape[1:]).sum(axis=1)[..., None]
        spread = np.zeros(flat.shape, np.float32)
        np.put_along_axis(spread, picked, here, axis=-1)
        inverse = np.argsort((0, *(a + 2 for a in rest), 1, *(a + 2 for a in axes)))
        return spread.reshape(ordered.shape).transpose(inverse).reshape(samples.shape)

    result = np.repeat(found, lead[1] if pooled else 1, axis=0)
    return Step((result.reshape(len(samples), *shape),), (Edge(site.node.input(0), Adjoint(back)),))


def norm(site: Site) -> Step:
    """ReduceSumSquare, a sum of squares over some axes, whose slope is `2 x`, and ReduceL2, its root: `x / norm`.

    Along axes without places of their own, the squares are those of the positions of the image.
    """
    samples = site.varying()
    rank = site.rank()
    axes = axes_in(site.integers(1, "axes") or range(rank), rank)
    inner = tuple(a + 1 for a in axes)
    places = int(np.prod([samples.shape[a] for a in inner]))
    terms = np.float32(max(site.count(0, axes, LAST_SIDE) / places, 1.0))
    pooled = places == 1 and terms > 1
    squares = (samples**2).sum(axis=inner, keepdims=True) * terms
    squares = image_mean(squares) if pooled else squares
    root = site.node.op_type == "ReduceL2"
    length = np.sqrt(squares) if root else squares
    slope = np.asarray(1 / np.maximum(length, np.float32(1e-12)) if root else 2, np.float32)
    kept = length.shape
    shape = kept if site.node.int("keepdims", 1) else tuple(n for a, n in enumerate(kept) if a not in inner)

    def back(rows: Samples) -> Samples:
        rows = np.asarray(rows.reshape(kept) * slope, np.float32)
        if pooled:
            return np.asarray(image_mean(rows) * samples * terms, np.float32)
        return np.asarray(rows * samples * np.sqrt(terms), np.float32)

    share = min(site.positions / float(terms), 1.0) if pooled else 1.0
    return Step((finite(length).reshape(shape),), (Edge(site.node.input(0), Adjoint(back, share)),))


def _spatial(site: Site) -> tuple[int, ...]:
    return tuple(range(2, site.rank()))


def average_pool(site: Site) -> Step:
    """A mean over a window; over the whole tensor where the window is that large."""
    samples, shape = site.varying(), site.shape(site.node.output)
    taps = max(int(np.prod(site.node.ints("kernel_shape") or (1,))), 1)
    lengths = set(shape[2:]) if shape is not None else {None}
    if lengths == {1} or (taps > _MAX_TAPS and lengths <= {1, None}):
        return average(site, _spatial(site))
    taps = min(taps, _MAX_TAPS)
    weight = np.float32(1 / taps)
    result = read_taps(samples, taps, lambda _, values: values * weight, samples)
    adjoint = Taps(lambda rows: write_taps(rows, taps, lambda _, values: values * weight, rows))
    return Step((result,), (Edge(site.node.input(0), adjoint),))


def max_pool(site: Site) -> Step:
    """The largest of a few neighbours; an error comes from the one that was picked."""
    samples = site.varying()
    taps = min(int(np.prod(site.node.ints("kernel_shape") or (3, 3))), _MAX_TAPS)
    pairs = neighbours(taps, positions_of(samples)) if taps > 1 else ()
    if not pairs:
        return Step((samples,), (Edge(site.node.input(0), Adjoint(lambda rows: rows)),))
    candidates = np.stack([neighbour(samples, order) for order, _ in pairs])
    picked = candidates.argmax(axis=0)
    result = np.take_along_axis(candidates, picked[None], axis=0)[0]

    def back(rows: Samples) -> Samples:
        total = np.zeros_like(rows)
        for tap, (_, inverse) in enumerate(pairs):
            total += neighbour(rows * (picked == tap), inverse)
        return total

    return Step((result,), (Edge(site.node.input(0), Adjoint(back)),))


def softmax(site: Site) -> Step:
    """`p = exp(x) / Σ exp(x)`, or its logarithm.

    Along an axis without places of its own the n terms are the positions of the image; where a place stands for
    several, each of them has the probability of that place.

    A model that gives probabilities was trained to be sure of one class, which scores of the right mean and variance
    alone do not show: among a thousand Gaussian ones none leads. So where it ends in this node the first class leads.
    """
    samples = site.varying()
    axis = axis_in(site.node.int("axis", -1 if site.model.opset >= 13 else 1), site.rank()) + 1
    # Without a known length, places that are told apart are all there are.
    known = (shape[axis - 1] for shape in map(site.shape, (site.node.input(0), site.node.output)) if shape is not None)
    apart = samples.shape[axis]
    length = next((length for length in known if length), OPEN_LENGTH if apart == 1 else apart)
    terms = 1.0 if apart == site.positions else max(length / apart, 1.0)
    pooled = apart == 1 and terms > 1
    if terms == 1 and any(site.node.output == value.name for value in site.model.outputs):
        samples = _with_lead(samples, axis)
    total = image_mean if pooled else partial(np.sum, axis=axis, keepdims=True)
    top = samples.max(axis=0) if pooled else samples.max(axis=axis, keepdims=True)
    below = np.maximum(samples - top, -60)
    weight = np.exp(below)
    sums = np.maximum(total(weight) * np.float32(terms), np.float32(1e-30))
    probability = weight / sums
    shared = np.float32(terms) * probability
    if site.node.op_type == "LogSoftmax":
        adjoint = Adjoint(lambda rows: rows - shared * total(rows))
        return Step((finite(below - np.log(sums)),), (Edge(site.node.input(0), adjoint),))

    def back(rows: Samples) -> Samples:
        inner = rows * probability
        return np.asarray(inner - shared * total(inner), np.float32)

    return Step((finite(probability),), (Edge(site.node.input(0), Adjoint(back)),))


def _with_lead(scores: Samples, axis: int) -> Samples:
    """The scores with the highest of each sample raised by one amount, so that its mean probability is `_SURE`."""
    best = scores.argmax(axis=axis, keepdims=True)
    highest = np.take_along_axis(scores, best, axis=axis)
    others = np.exp(np.maximum(scores - highest, -60)).sum(axis=axis, dtype=np.float64) - 1
    least, most = 0.0, _FAR_AHEAD
    while most - least > 1e-3:
        lead = (least + most) / 2
        sure = float((1 / (1 + others * np.exp(-lead))).mean()) >= _SURE
        least, most = (least, lead) if sure else (lead, most)
    raised = scores.copy()
    np.put_along_axis(raised, best, highest + np.float32(least), axis=axis)
    return raised


def normalise(site: Site, axes: tuple[int, ...]) -> Step:
    """`gamma (x - mean) / deviation + beta` with both figures taken over `axes`, from the sample itself."""
    samples = site.varying()
    rank = site.rank()
    inner = tuple(axis_in(a, rank) + 1 for a in axes)
    by_channel = site.node.op_type != "LayerNormalization"
    wide = (-1, *(1,) * (rank - 2)) if by_channel else None
    pooled = by_channel and all(samples.shape[a] == 1 for a in inner)

    def mean(values: Samples) -> Samples:
        return image_mean(values) if pooled else values.mean(axis=inner, keepdims=True)

    centred = samples - mean(samples)
    inverse = 1 / np.sqrt(mean(centred**2) + np.float32(max(site.node.float("epsilon", 1e-5), 1e-12)))
    unit = centred * inverse
    gamma, beta = (None if v is None else (v.reshape(wide) if wide else v) for v in map(site.constant, (1, 2)))
    broadcast(samples.shape[1:], *(v.shape for v in (gamma, beta) if v is not None))
    scale = np.float32(1) if gamma is None else gamma
    result = unit * scale + (np.float32(0) if beta is None else beta)

    def back(rows: Samples) -> Samples:
        rows = unbroadcast(rows * scale, samples.shape[1:]) * inverse
        return np.asarray(rows - mean(rows) - unit * mean(rows * unit), np.float32)

    return Step((finite(result),), (Edge(site.node.input(0), Adjoint(back)),))


RULES: Mapping[str, TransferRule] = {
    "BatchNormalization": batch_norm,
    "GlobalAveragePool": lambda site: average(site, _spatial(site)),
    "ReduceMean": reduce,
    "ReduceSum": reduce,
    "ReduceMax": extreme,
    "ReduceMin": extreme,
    "ReduceL2": norm,
    "ReduceSumSquare": norm,
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "GlobalMaxPool": max_pool,
    "LayerNormalization": lambda site: normalise(site, tuple(range(min(site.node.int("axis", -1), -1), 0))),
    "InstanceNormalization": lambda site: normalise(site, _spatial(site)),
    "Softmax": softmax,
    "LogSoftmax": softmax,
}
