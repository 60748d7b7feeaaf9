"""Which tensors get finer codes, and in which order: what gains most for each multiplication that leaves 8 bits.

An activation gets codes of 16 bits, a weight stays in float. Either takes the layers around it out of 8 bits, and all
that only these layers read or make is then finer for nothing. So a step is a set of layers and every tensor between
them that matters. Its gain is foreseen from what each tensor costs alone: noises add up,

    noise_p(step) = sum of noise_p over the tensors that are left,    for each output and part p of one

and the worst part counts, smoothly: `(sum_p noise_p^4)^(1/4)`. Its price is the share of all multiplications.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

MATTERS = 0.003
"""Fraction of the noise at some part that a tensor makes at least, of what is left, to be worth a scale of its own."""
TENSOR_PRICE = 0.0003
"""What each tensor costs beside multiplications, as a share of them: it is read, written and converted."""
# Where a sum of powers is as good as the largest of them.
_POWER = 4
_LEAST_NOISE = 1e-15


@dataclass(frozen=True, eq=False)
class Item:
    """One tensor that may get finer codes.

    Attributes:
        noise: of it alone, over the signal, at each output and part.
        layers: keys of the layers that leave 8 bits with it.
        wide: the activation that gets 16 bits; empty where nodes stay in float instead.
        nodes: names of the nodes that stay in float.
    """

    noise: Vector
    layers: frozenset[str]
    wide: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finer:
    """What has finer codes after a step and all before it.

    Attributes:
        wide: activations of 16 bits.
        excluded: names of nodes in float.
        share: fraction of the multiplications that are no longer done in 8 bits.
    """

    wide: frozenset[str]
    excluded: frozenset[str]
    share: float


def steps(items: Sequence[Item], shares: Mapping[str, float], most: float) -> Iterator[Finer]:
    """Growing sets of finer tensors, as far as anything matters and the share allows.

    Args:
        items: all that may be finer.
        shares: fraction of the multiplications that each layer does, by its key.
        most: fraction of them that may leave 8 bits.
    """
    left, out = list(items), frozenset[str]()
    wide, excluded = frozenset[str](), frozenset[str]()
    while left:
        noise = _sum(left)
        floor = MATTERS * noise
        loud = [item for item in left if (item.noise > floor).any()]
        best, best_rate = None, 0.0
        for layers in dict.fromkeys(item.layers for item in loud):
            together = out | layers
            share = sum(shares.get(layer, 0.0) for layer in together)
            taken = [item for item in loud if item.layers <= together]
            price = share - sum(shares.get(layer, 0.0) for layer in out) + TENSOR_PRICE * len(taken)
            rate = _gain_db(noise, noise - _sum(taken)) / price
            if share <= most and rate > best_rate:
                best, best_rate = (taken, together, share), rate
        if best is None:
            return
        taken, out, share = best
        wide |= {item.wide for item in taken if item.wide}
        excluded |= {name for item in taken for name in item.nodes}
        left = [item for item in left if item not in taken]
        yield Finer(wide, excluded, share)


def _sum(items: Sequence[Item]) -> Vector:
    total: Vector = np.sum([item.noise for item in items], axis=0)
    return total


def _gain_db(before: Vector, after: Vector) -> float:
    """Decibels of the worst part, smoothly."""
    least = np.maximum(after, _LEAST_NOISE * before)
    scale = float(before.max()) or 1.0
    return float(10 / _POWER * np.log10(np.sum((before / scale) ** _POWER) / np.sum((least / scale) ** _POWER)))
