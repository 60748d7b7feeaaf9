"""What lies between the same values of two files, where an optimiser put operations together or took one apart.

Attention, SkipLayerNormalization or BiasGelu stand for a dozen operators of the other file, and none of these is its
partner alone. But what makes a paired value out of paired values, and of nothing else, is the same in both files.
A value in another shape is the same value: optimisers flatten what goes into a Gemm, and undo that behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from onnxlint_q.analysis.pairing.skeleton import Operation, Skeleton
from onnxlint_q.graph import Trait


@dataclass(frozen=True, slots=True, eq=False)
class PairedRegion:
    """Operations that together are the same in both files: fused in one, single in the other, or mere shapes."""

    reference: tuple[Operation, ...]
    quantized: tuple[Operation, ...]


def find_regions(
    reference: Skeleton,
    quantized: Skeleton,
    values: Mapping[int, int],
    paired: Collection[Operation],
) -> Iterator[PairedRegion]:
    """Regions in the data order of the quantised file, shapes first; each operation is in one of them at most.

    Args:
        reference: the float network.
        quantized: the other.
        values: index of the reference's value by that of the quantised file's.
        paired: operations of both that have a partner already.
    """
    taken = set(paired)
    ours, theirs = _Side(reference, values.values()), _Side(quantized, values)
    same = {theirs.root(value): ours.root(other) for value, other in values.items()}
    plumbing = [tuple(op for op in side.reshapes() if op not in taken) for side in (ours, theirs)]
    taken.update(*plumbing)
    if any(plumbing):
        yield PairedRegion(*plumbing)
    for value in sorted(values):
        made, other = theirs.between(value, taken), ours.between(values[value], taken)
        if made is None or other is None or {same.get(read) for read in made.reads} != other.reads:
            continue
        taken.update(made.operations, other.operations)
        yield PairedRegion(other.operations, made.operations)


@dataclass(frozen=True, slots=True)
class _Between:
    operations: tuple[Operation, ...]
    reads: frozenset[int]


class _Side:
    """One of the files.

    Attributes:
        known: values that are paired, as they were before they were reshaped.
    """

    def __init__(self, skeleton: Skeleton, known: Collection[int]) -> None:
        self.skeleton, self.makers = skeleton, skeleton.makers()
        self._roots: dict[int, int] = {}
        for operation in skeleton.operations:
            if _reshapes(operation):
                self._roots[operation.outputs[0]] = self.root(operation.inputs[0])
        self.known = frozenset(map(self.root, known))

    def root(self, value: int) -> int:
        """The value before it was reshaped."""
        return self._roots.get(value, value)

    def reshapes(self) -> Iterator[Operation]:
        """Those that give a paired value another shape, and so make none."""
        known = self.known
        return (op for op in self.skeleton.operations if _reshapes(op) and self.root(op.inputs[0]) in known)

    def between(self, value: int, taken: Collection[Operation]) -> _Between | None:
        """What makes a value, back to known ones; None where that is nothing, or passes an operation that is taken."""
        found: dict[Operation, None] = {}
        reads: set[int] = set()
        frontier = [self.root(value)]
        while frontier:
            maker = self.makers.get(frontier.pop())
            if maker is None or maker in taken:
                return None
            if maker not in found:
                found[maker] = None
                roots = [self.root(read) for read in maker.inputs]
                reads.update(root for root in roots if root in self.known)
                frontier.extend(root for root in roots if root not in self.known)
        return _Between(tuple(found), frozenset(reads))


def _reshapes(operation: Operation) -> bool:
    plain = len(operation.inputs) == len(operation.outputs) == 1
    return plain and operation.node.operator.has(Trait.RESHAPES)
