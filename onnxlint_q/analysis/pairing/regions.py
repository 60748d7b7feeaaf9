"""What lies between the same values of two files, where an optimiser put operations together or took one apart.

Attention, SkipLayerNormalization or BiasGelu stand for a dozen operators of the other file, and none of these is its
partner alone. But what makes a paired value out of paired values, and of nothing else, is the same in both files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from onnxlint_q.analysis.pairing.skeleton import Operation, Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class PairedRegion:
    """Operations that make the same value of the same values in both files: fused in one, single in the other.

    Attributes:
        value: what they make, in the quantised file.
    """

    value: int
    reference: tuple[Operation, ...]
    quantized: tuple[Operation, ...]


def find_regions(
    reference: Skeleton,
    quantized: Skeleton,
    values: Mapping[int, int],
    paired: Collection[Operation],
) -> Iterator[PairedRegion]:
    """Regions in the data order of the quantised file; each operation is in one of them at most.

    Args:
        reference, quantized: the two networks.
        values: index of the reference's value by that of the quantised file's.
        paired: operations of both that have a partner already.
    """
    taken = set(paired)
    makers = reference.makers(), quantized.makers()
    known = frozenset(values.values()), frozenset(values)
    for value in sorted(values):
        theirs = _between(value, makers[1], known[1], taken)
        ours = _between(values[value], makers[0], known[0], taken)
        if theirs is None or ours is None or {values[read] for read in theirs.reads} != ours.reads:
            continue
        taken.update(ours.operations, theirs.operations)
        yield PairedRegion(value, ours.operations, theirs.operations)


@dataclass(frozen=True, slots=True)
class _Between:
    operations: tuple[Operation, ...]
    reads: frozenset[int]


def _between(
    value: int, makers: Mapping[int, Operation], known: Collection[int], taken: Collection[Operation]
) -> _Between | None:
    """What makes a value, back to known ones; None where that is nothing, or passes an operation that is taken."""
    found: dict[Operation, None] = {}
    reads: set[int] = set()
    frontier = [value]
    while frontier:
        maker = makers.get(frontier.pop())
        if maker is None or maker in taken:
            return None
        if maker in found:
            continue
        found[maker] = None
        reads.update(read for read in maker.inputs if read in known)
        frontier.extend(read for read in maker.inputs if read not in known)
    return _Between(tuple(found), frozenset(reads))
