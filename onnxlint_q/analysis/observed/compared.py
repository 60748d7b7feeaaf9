"""What running two files on the same samples showed: plain values that a comparison fills, and rules and reports read.

A *row* is one value that both files hold; its key is `ComparedRow.quantized`, a tensor of the quantised file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from onnxlint_q.analysis.observed.readings import (
    BiasReading,
    MissingActivation,
    ParameterReading,
    PartReading,
    QparamsReading,
    WeightReading,
)
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.finding import Location

JUMP_DB = 6.0
"""Decibels that a row has to lie below all that its operator reads before it is asked why.

Half of the error's amplitude is its own then; in healthy int8 files layers lose up to 12 dB, all of them above
`CONFIRM_BELOW_DB`.
"""
INHERITED_DB = 3.0
"""An operator inherits its error where the float one leaves at most so many dB more on the same inputs."""


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One value that both models have.

    Attributes:
        node: label of the operator of the quantised file that makes it; of an input its name.
        op_type: operator as in the quantised file; `Input` for an input of the model.
        layer: it is the result of a layer.
        reference, quantized: tensor keys in the two files.
        sqnr_db, qmse, qce, qkl, cosine: float against dequantised; infinite SQNR is a perfect match.
        reads_db: worst SQNR of what the operator reads; infinite for an input, None where nothing is known.
        drop_db: by how much SQNR falls in the operator, `reads_db - sqnr_db`; None where one is unknown or both are
            infinite.
        location: of the operator in the quantised file.
        reference_node: name of the float file's operator; empty where it has none or the row is an input.
        reads: keys of the rows that its operator reads, through operators that were not compared.
        output: it is an output of the model.
        moves: its operator makes no values, it has those that it reads in another place or shape.
        fused: operators behind the named one belong to it: a rectifier, a BatchNormalization, a bias of its own.
        valid_scale: False where its scale is not a positive number.
        qparams: of this value in the quantised file; None where it is float or has qparams a channel or at run time.
        weight, bias: of a layer; None elsewhere, and where they cannot be read.
        input_db: SQNR (dB) at the row with the float weight on the float input, rounded as in the quantised file; None
            where it was not run.
        inherited_db: with the float operator on the input that the quantised file has, errors from before included.
        before_db: with the float operator on what the layer before it makes with the quantised file's weight.
        parts: of a value that joins several, these.
        parameters: constants of its operators that differ.
        missing: activations that the float file has in front of what reads it.
        differing: attributes of its operator that differ, in words.
    """

    node: str
    op_type: str
    layer: bool
    reference: str
    quantized: str
    sqnr_db: float | None
    qmse: float | None
    qce: float | None
    qkl: float | None
    cosine: float | None
    reads_db: float | None
    drop_db: float | None
    location: Location = field(default_factory=Location)
    reference_node: str = ""
    reads: tuple[str, ...] = ()
    output: bool = False
    moves: bool = False
    fused: bool = False
    valid_scale: bool = True
    qparams: QparamsReading | None = None
    weight: WeightReading | None = None
    bias: BiasReading | None = None
    input_db: float | None = None
    inherited_db: float | None = None
    before_db: float | None = None
    parts: tuple[PartReading, ...] = ()
    parameters: tuple[ParameterReading, ...] = ()
    missing: tuple[MissingActivation, ...] = ()
    differing: tuple[str, ...] = ()

    @property
    def worst_db(self) -> float | None:
        """SQNR of the worst of what it joins; its own where it joins nothing."""
        known = [part.sqnr_db for part in self.parts if part.sqnr_db is not None]
        return min([self.sqnr_db, *known]) if self.sqnr_db is not None else min(known, default=None)

    @property
    def weight_sqnr_db(self) -> float | None:
        """SQNR of the dequantised weight against the folded float one; None where it is no layer."""
        return self.weight.sqnr_db if self.weight is not None else None

    def amplifies(self, bad_db: float) -> bool:
        """Whether it lies below `bad_db`, and its operator may have made that of the little that came with its inputs.

        It may where the float operator was not run on the same inputs.
        """
        if self.sqnr_db is None or self.sqnr_db >= bad_db:
            return False
        return self.inherited_db is None or self.inherited_db < self.sqnr_db + INHERITED_DB

    def falls(self, jump_db: float, bad_db: float) -> bool:
        """Whether it lies below `bad_db`, and more than `jump_db` below all that its operator reads."""
        if self.sqnr_db is None or self.drop_db is None:
            return False
        return self.drop_db > jump_db and self.sqnr_db < bad_db


@dataclass(frozen=True, eq=False)
class Compared:
    """Two files on the same samples, value by value.

    Attributes:
        rows: in the data order of the quantised file.
        keys: key of the row that holds a tensor of the quantised file, by the tensor's key.
        reference_keys: the same by the key of a tensor of the float file.
        constants: keys of the rows whose operators read a constant of the quantised file, by its key.
        dequantised: key of what a constant becomes, by that of its codes or its scale.
    """

    rows: tuple[ComparedRow, ...]
    keys: Mapping[str, str] = field(default_factory=dict)
    reference_keys: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dequantised: Mapping[str, str] = field(default_factory=dict)

    def row(self, tensor: str) -> ComparedRow | None:
        """The row that holds a tensor of the quantised file, as it is, as codes, or dequantised."""
        return self._rows.get(self.keys.get(tensor, tensor))

    def readers(self, row: ComparedRow) -> tuple[ComparedRow, ...]:
        """Rows whose operators read `row`."""
        return self._readers.get(row.quantized, ())

    def behind(self, row: ComparedRow) -> Iterator[ComparedRow]:
        """`row` and all rows that it reaches, in data order."""
        reached: set[str] = {row.quantized}
        for other in self.rows:
            if other.quantized in reached or reached.intersection(other.reads):
                reached.add(other.quantized)
                yield other

    def spoilt(self, row: ComparedRow, bad_db: float) -> Iterator[ComparedRow]:
        """`row` and what its error gets to, in data order: it ends where at least `bad_db` are left.

        It goes on where an operator behind makes much of the little that is left there.
        """
        reached = {row.quantized}
        ended: set[str] = set()
        yield row
        for other in self.rows:
            lasting, little = reached.intersection(other.reads), ended.intersection(other.reads)
            if not lasting and not little:
                continue
            kept = lasting and other.moves
            if not kept and other.worst_db is not None and other.worst_db >= bad_db:
                ended.add(other.quantized)
            elif lasting or other.amplifies(bad_db):
                reached.add(other.quantized)
                yield other

    def heals(self, row: ComparedRow, bad_db: float) -> tuple[ComparedRow, ...]:
        """The rows where the error of `row` ends; empty where it gets to an output, or to the end of what is known."""
        spoilt = tuple(self.spoilt(row, bad_db))
        if any(other.output or not self.readers(other) for other in spoilt):
            return ()
        keys = {other.quantized for other in spoilt}
        return tuple(other for other in self.rows if other.quantized not in keys and keys.intersection(other.reads))

    @cached_property
    def _rows(self) -> Mapping[str, ComparedRow]:
        return {row.quantized: row for row in self.rows}

    @cached_property
    def _readers(self) -> Mapping[str, tuple[ComparedRow, ...]]:
        found: dict[str, list[ComparedRow]] = {}
        for row in self.rows:
            for key in row.reads:
                found.setdefault(key, []).append(row)
        return {key: tuple(rows) for key, rows in found.items()}


@dataclass(frozen=True, slots=True)
class ClassifierError:
    """A classifier's output, float against quantised.

    Attributes:
        agreement: fraction of samples with the same top-1.
        qmse, qce, qkl: between the softmax outputs, mean over the samples, nats.
        top1: how often either is right; None without labels.
    """

    agreement: float
    qmse: float
    qce: float
    qkl: float
    top1: Top1 | None = None
