"""Which tensor of a quantised file is which of the float one: an alignment of their skeletons, never of names.

Layers are anchors: two layers of one kind and shape whose weights are each other's nearest by far are the same layer.
From the anchors and the inputs pairs spread along the data: operations of one kind that read the same values are the
same operation if there is only one on each side, or one with these attributes; what a paired operation reads and makes
is paired with it. Where an optimiser put several operations into one, or took one apart, what lies between the same
values is the same in both files. What stays ambiguous stays unpaired, and is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.pairing.likeness import likeness
from onnxlint_q.analysis.pairing.regions import PairedRegion, find_regions
from onnxlint_q.analysis.pairing.skeleton import Operation, Skeleton
from onnxlint_q.errors import ModelError
from onnxlint_q.graph import Model, Value

# Weights of one layer, float and int8, have 0.99 and more; unrelated ones of nine taps reach 0.5.
_ANCHOR, _MARGIN = 0.7, 0.1
STRANGE = 0.5
"""Below this likeness the weights of two layers are not one weight, rounded."""
_PASSES = 64


@dataclass(frozen=True, slots=True, eq=False)
class PairedOperation:
    """One operation in both files.

    Attributes:
        likeness: of the weights, in [-1, 1]; None where it is no layer.
    """

    reference: Operation
    quantized: Operation
    likeness: float | None


@dataclass(frozen=True, eq=False)
class Pairing:
    """What is the same in two files.

    Attributes:
        inputs: inputs of the models, reference first.
        values: index of the reference's value by that of the quantised file's, in the order of the latter.
        operations: in the data order of the quantised file.
        regions: operations that are several in one file, and together what others are in the other one.
        lost_reference, lost_quantized: operations that have no partner, alone or together with others.
        contradictions: how often two ways led to different partners; the first way was kept.
    """

    reference: Skeleton
    quantized: Skeleton
    inputs: tuple[tuple[Value, Value], ...]
    values: Mapping[int, int]
    operations: tuple[PairedOperation, ...]
    regions: tuple[PairedRegion, ...]
    lost_reference: tuple[Operation, ...]
    lost_quantized: tuple[Operation, ...]
    contradictions: int


def pair(reference: Skeleton, quantized: Skeleton) -> Pairing:
    """Align two skeletons.

    Raises:
        ModelError: the inputs do not correspond, or the files do not hold the same network.
    """
    inputs = tuple(pair_inputs(reference.model, quantized.model))
    aligner = _Aligner(reference, quantized)
    for ours, theirs in inputs:
        aligner.pair_values(quantized.value_of[theirs.name], reference.value_of[ours.name])
    aligner.anchor()
    aligner.spread()
    aligner.pair_outputs()
    paired = {*aligner.partner, *aligner.taken}
    regions = tuple(find_regions(reference, quantized, aligner.to_reference, paired))
    operations = tuple(
        PairedOperation(aligner.partner[op], op, aligner.likeness(aligner.partner[op], op))
        for op in quantized.operations
        if op in aligner.partner
    )
    _check(reference, quantized, operations)
    taken = {*aligner.partner.values(), *(op for region in regions for op in region.reference)}
    known = {*aligner.partner, *(op for region in regions for op in region.quantized)}
    return Pairing(
        reference=reference,
        quantized=quantized,
        inputs=inputs,
        values=dict(sorted(aligner.to_reference.items())),
        operations=operations,
        regions=regions,
        lost_reference=tuple(op for op in reference.operations if op not in taken),
        lost_quantized=tuple(op for op in quantized.operations if op not in known),
        contradictions=aligner.contradictions,
    )


def pair_inputs(reference: Model, quantized: Model) -> Iterator[tuple[Value, Value]]:
    """Inputs by name, or by position where the names differ.

    Raises:
        ModelError: there are more on one side, or two that belong together have different shapes.
    """
    ours, theirs = reference.inputs, quantized.inputs
    if len(ours) != len(theirs):
        raise ModelError(
            f"{quantized.name}: has {len(theirs)} inputs, {reference.name} has {len(ours)}; they cannot be fed the "
            "same samples, so name the float model that this file was made from"
        )
    named = {value.name: value for value in theirs}
    same = named.keys() == {value.name for value in ours}
    for position, value in enumerate(ours):
        other = named[value.name] if same else theirs[position]
        if not _shapes_agree(value, other):
            raise ModelError(
                f"{quantized.name}: its input {other.name!r} has shape {other.shape_text}, the input {value.name!r} of "
                f"{reference.name} has {value.shape_text}; name the float model that this file was made from"
            )
        yield value, other


def channels_moved(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Whether `other` is `shape` with its channels, axis 1, moved to the end, and not the same."""
    if len(shape) != len(other) or len(shape) < 3 or _fits(shape, other):
        return False
    return _fits([shape[0], *shape[2:], shape[1]], other)


def _fits(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(shape, other, strict=True))


def _shapes_agree(value: Value, other: Value) -> bool:
    shape, theirs = value.type.shape, other.type.shape
    if shape is None or theirs is None:
        return True
    if len(shape) != len(theirs):
        return False
    return _fits(shape, theirs) or channels_moved(shape, theirs) or channels_moved(theirs, shape)


def _check(reference: Skeleton, quantized: Skeleton, operations: Iterable[PairedOperation]) -> None:
    """Refuse files that do not hold one network.

    Raises:
        ModelError: hardly any layer of the quantised file has its weight in the float one.
    """
    layers = sum(op.layer is not None for op in quantized.operations)
    paired = [op.likeness for op in operations if op.likeness is not None]
    alike = sum(value >= STRANGE for value in paired)
    # Twins that stay unpaired say nothing; pairs of one position with different weights do.
    if layers and alike < max(1, len(paired) / 2):
        raise ModelError(
            f"{quantized.model.name}: {alike or 'none'} of its {layers} layers have a weight of "
            f"{reference.model.name}, rounded, so these are two networks; name the float model that this "
            "file was made from"
        )
    if not layers and any(op.layer is not None for op in reference.operations):
        raise ModelError(
            f"{quantized.model.name}: has no layer with a constant weight that could be recognised in "
            f"{reference.model.name}; name the model that was quantised from it"
        )


class _Aligner:
    def __init__(self, reference: Skeleton, quantized: Skeleton) -> None:
        self.reference, self.quantized = reference, quantized
        self.to_reference: dict[int, int] = {}
        self.to_quantized: dict[int, int] = {}
        self.partner: dict[Operation, Operation] = {}
        self.taken: set[Operation] = set()
        self.contradictions = 0
        self._readers = reference.readers(), quantized.readers()
        self._makers = reference.makers(), quantized.makers()
        self._alike: dict[tuple[Operation, Operation], float] = {}

    # -- pairs ---------------------------------------------------------------------------------------------------

    def pair_values(self, value: int, reference: int) -> None:
        """Value `value` of the quantised file is `reference`, unless one of them is another's already."""
        if value not in self.to_reference and reference not in self.to_quantized:
            self.to_reference[value] = reference
            self.to_quantized[reference] = value
        elif self.to_reference.get(value) != reference:
            self.contradictions += 1

    def pair_operations(self, ours: Operation, theirs: Operation) -> None:
        """The operations are the same, so what they make is the same, and mostly what they read."""
        self.partner[theirs] = ours
        self.taken.add(ours)
        if len(ours.outputs) == len(theirs.outputs):
            for value, reference in zip(theirs.outputs, ours.outputs, strict=True):
                self.pair_values(value, reference)
        if len(ours.inputs) != len(theirs.inputs) or _folds_before(ours) != _folds_before(theirs):
            return
        left = list(zip(theirs.inputs, ours.inputs, strict=True))
        if ours.commutative and len(left) > 1:
            known = {self.to_reference[value] for value in theirs.inputs if value in self.to_reference}
            free = [value for value in theirs.inputs if value not in self.to_reference]
            others = [value for value in ours.inputs if value not in known]
            left = [(free[0], others[0])] if len(free) == len(others) == 1 else []
        for value, reference in left:
            self.pair_values(value, reference)

    def likeness(self, ours: Operation, theirs: Operation) -> float | None:
        """Likeness of two layers, None for what is no layer."""
        if ours.layer is None or theirs.layer is None:
            return None
        key = (ours, theirs)
        if key not in self._alike:
            score = likeness(self.reference.model, [ours.layer], self.quantized.model, [theirs.layer])
            self._alike[key] = float(score[0, 0])
        return self._alike[key]

    # -- anchors -------------------------------------------------------------------------------------------------

    def anchor(self) -> None:
        """Pair the layers whose weights are each other's nearest by far."""
        groups = _by_shape(self.reference), _by_shape(self.quantized)
        for shape in (shape for shape in groups[1] if shape in groups[0]):
            ours, theirs = groups[0][shape], groups[1][shape]
            alike = likeness(
                self.reference.model, list(map(_layer, ours)), self.quantized.model, list(map(_layer, theirs))
            )
            for row, column in zip(*np.nonzero(_mutual(alike) & _mutual(alike.T).T), strict=True):
                self._alike[ours[row], theirs[column]] = float(alike[row, column])
                self.pair_operations(ours[row], theirs[column])

    # -- along the data ------------------------------------------------------------------------------------------

    def spread(self) -> None:
        """Pair along the data, forth and back, until nothing is added."""
        order = self.quantized.operations
        for turn in range(_PASSES):
            before = len(self.partner)
            for theirs in order if turn % 2 == 0 else reversed(order):
                if theirs not in self.partner:
                    ours = self._by_inputs(theirs) or self._by_outputs(theirs)
                    if ours is not None:
                        self.pair_operations(ours, theirs)
            if turn and len(self.partner) == before:
                return

    def pair_outputs(self) -> None:
        """Pair outputs of the models that the data did not lead to, by name."""
        for output in self.quantized.model.outputs:
            value, reference = (side.value_of.get(output.name) for side in (self.quantized, self.reference))
            if value is None or reference is None:
                continue
            if value not in self.to_reference and reference not in self.to_quantized:
                self.pair_values(value, reference)

    def _by_inputs(self, theirs: Operation) -> Operation | None:
        """The only operation that can be `theirs` by what it reads."""
        if not theirs.inputs or not all(value in self.to_reference for value in theirs.inputs):
            return None
        mapped = _read(theirs, [self.to_reference[value] for value in theirs.inputs])
        ours = [
            op
            for op in self._readers[0].get(mapped[0], ())
            if op not in self.taken and _same_kind(op, theirs) and _read(op, op.inputs) == mapped
        ]
        rivals = [
            op
            for op in self._readers[1].get(theirs.inputs[0], ())
            if op not in self.partner
            and _same_kind(op, theirs)
            and _read(op, op.inputs) == _read(theirs, theirs.inputs)
        ]
        if len(ours) > 1 or len(rivals) > 1:
            ours = [op for op in ours if op.signature == theirs.signature]
            rivals = [op for op in rivals if op.signature == theirs.signature]
        return ours[0] if len(ours) == len(rivals) == 1 else None

    def _by_outputs(self, theirs: Operation) -> Operation | None:
        """The operation that makes the partner of what `theirs` makes, if it is of the same form."""
        for position, value in enumerate(theirs.outputs):
            reference = self.to_reference.get(value)
            ours = self._makers[0].get(reference) if reference is not None else None
            if (
                ours is not None
                and ours not in self.taken
                and _same_kind(ours, theirs)
                and len(ours.inputs) == len(theirs.inputs)
                and ours.outputs.index(reference or 0) == position
            ):
                return ours
        return None


def _layer(operation: Operation) -> FoldedLayer:
    assert operation.layer is not None
    return operation.layer


def _folds_before(operation: Operation) -> bool:
    return operation.layer is not None and operation.layer.before is not None


def _form(operation: Operation) -> tuple[str, int, int]:
    """Kind, channels and taps of a layer."""
    part = _layer(operation).layer
    return operation.kind, part.channels, int(np.prod(part.weight_shape)) // max(part.channels, 1)


def _by_shape(skeleton: Skeleton) -> dict[tuple[str, int, int], list[Operation]]:
    groups: dict[tuple[str, int, int], list[Operation]] = defaultdict(list)
    for operation in skeleton.operations:
        if operation.layer is not None:
            groups[_form(operation)].append(operation)
    return groups


def _same_kind(ours: Operation, theirs: Operation) -> bool:
    if ours.kind != theirs.kind or (ours.layer is None) != (theirs.layer is None):
        return False
    return ours.layer is None or _form(ours) == _form(theirs)


def _read(operation: Operation, values: Iterable[int]) -> list[int]:
    return sorted(values) if operation.commutative else list(values)


def _mutual(alike: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which entries are the best of their row, good, and better than the second by a margin."""
    second = np.partition(alike, -2, axis=1)[:, -2:-1] if alike.shape[1] > 1 else np.full((len(alike), 1), -np.inf)
    best = alike == alike.max(axis=1, keepdims=True)
    return np.asarray(best & (alike >= _ANCHOR) & (alike - second >= _MARGIN), np.bool_)
