"""What running two files on the same samples showed: plain values that a comparison fills, and rules and reports read.

A *row* is one value that both files hold; its key is `ComparedRow.quantized`, a tensor of the quantised file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.finding import Location

JUMP_DB = 6.0
"""Decibels that a row has to lie below all that its operator reads before it is asked why.

Half of the error's amplitude is its own then; in healthy int8 files layers lose up to 12 dB, all of them above
`CONFIRM_BELOW_DB`.
"""


@dataclass(frozen=True, slots=True)
class QparamsReading:
    """The qparams of a quantised tensor against what the float model has there.

    Attributes:
        scale, zero_point: one step, and the code of zero.
        low, high: smallest and largest value that the codes can represent.
        float_low, float_high: smallest and largest value of the float tensor over all samples.
        clipped_fraction: of the float tensor's values, those more than half a step outside `low` to `high`.
        used_codes, codes: different codes that the float tensor's values get, a thousandth of them at either end left
            out, and how many there are.
        span_ratio: range of the codes over the range of the float tensor, zero included; above 1 codes are wasted.
        rounding_sqnr_db: SQNR if only this rounding is applied to the float tensor; infinite for none, None if there
            is no signal.
    """

    scale: float
    zero_point: int
    low: float
    high: float
    float_low: float
    float_high: float
    clipped_fraction: float
    used_codes: int
    codes: int
    span_ratio: float | None
    rounding_sqnr_db: float | None


@dataclass(frozen=True, slots=True, eq=False)
class WeightReading:
    """The weight of a layer in both files.

    Attributes:
        tensor: its key in the quantised file.
        likeness: cosine of the two weights, in [-1, 1].
        sqnr_db: of the dequantised weight against the float one, folded as the quantised one is; infinite for a perfect
            match, None where there is no signal.
        channels_db: the same of each output channel that has signal, +150 for a perfect match.
        scales: how many scales it has; 0 where they are not known.
        excess: how many times larger a scale is than the largest magnitude under it needs, median over the scales.
        alone_db: SQNR (dB) at the row with this weight on the float input; None where it was not run.
    """

    tensor: str
    likeness: float
    sqnr_db: float | None
    channels_db: npt.NDArray[np.float64]
    scales: int
    excess: float
    alone_db: float | None = None


@dataclass(frozen=True, slots=True)
class BiasReading:
    """The bias of a layer in both files.

    Attributes:
        tensor: its key in the quantised file.
        difference: root mean square of float minus quantised, in the unit of the layer's result.
        alone_db: SQNR (dB) that this difference alone leaves at the row.
    """

    tensor: str
    difference: float
    alone_db: float


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
        fused: operators behind the named one belong to it: a rectifier, a BatchNormalization, a bias of its own.
        valid_scale: False where its scale is not a positive number.
        qparams: of this value in the quantised file; None where it is float or has qparams a channel or at run time.
        weight, bias: of a layer; None elsewhere, and where they cannot be read.
        input_db: SQNR (dB) at the row with the float weight on the float input, rounded as in the quantised file; None
            where it was not run.
        inherited_db: with the float operator on the input that the quantised file has, errors from before included.
        before_db: with the float operator on what the layer before it makes with the quantised file's weight.
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
    fused: bool = False
    valid_scale: bool = True
    qparams: QparamsReading | None = None
    weight: WeightReading | None = None
    bias: BiasReading | None = None
    input_db: float | None = None
    inherited_db: float | None = None
    before_db: float | None = None

    @property
    def weight_sqnr_db(self) -> float | None:
        """SQNR of the dequantised weight against the folded float one; None where it is no layer."""
        return self.weight.sqnr_db if self.weight is not None else None

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
    """

    rows: tuple[ComparedRow, ...]
    keys: Mapping[str, str] = field(default_factory=dict)
    reference_keys: Mapping[str, str] = field(default_factory=dict)

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
