"""Lists of tensors, of which one element stands for all: the positions of an image are its elements.

So lists are that a Loop fills, one element a round, and those that a tensor is cut into.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxlint_q.forecast.operators.control.bodies import sliced_along
from onnxlint_q.forecast.operators.structure import move, same
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint
from onnxlint_q.forecast.unmodelled import UnmodelledError, axis_in


def insert(site: Site) -> Step:
    """One more element, the first of its list or one of a Loop."""
    if site.samples() is not None:
        raise UnmodelledError("it makes a list of different tensors")
    samples = site.varying(1)
    return Step((samples,), (Edge(site.node.input(1), Adjoint(lambda rows: rows)),))


def join(site: Site) -> Step:
    """The elements side by side, along a new axis or one that is there."""
    samples = site.varying()
    axis, rank = site.node.int("axis", 0), samples.ndim - 1
    if site.node.int("new_axis", 0):
        axis = axis_in(axis, rank + 1)
        return move(site, lambda places: np.expand_dims(places, axis))
    if samples.shape[axis_in(axis, rank) + 1] > 1:
        raise UnmodelledError("its elements have places that are told apart")
    return same(site)


def cut(site: Site) -> Step:
    """A tensor as a list of its places along one axis."""
    samples, axis = site.varying(), site.node.int("axis", 0)
    place = axis_in(axis, samples.ndim - 1) + 1
    if site.node.input(1):
        if samples.shape[place] > 1:
            raise UnmodelledError("it cuts places that are told apart into pieces")
        return same(site)
    picked, back = sliced_along(samples, axis)
    if not site.node.int("keepdims", 1):
        return Step((picked,), (Edge(site.node.input(0), Adjoint(back)),))
    kept = picked.shape
    return Step(
        (np.expand_dims(picked, place),), (Edge(site.node.input(0), Adjoint(lambda rows: back(rows.reshape(kept)))),)
    )


RULES: Mapping[str, TransferRule] = {
    "SequenceInsert": insert,
    "SequenceAt": same,
    "ConcatFromSequence": join,
    "SplitToSequence": cut,
}
