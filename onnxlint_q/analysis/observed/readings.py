"""What the two files of a comparison hold at one value: qparams, weight, bias, other constants, joined parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.finding import Location


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


@dataclass(frozen=True, slots=True)
class PartReading:
    """One of the values that a row joins.

    Attributes:
        tensor: key of the joined tensor in the float file.
        reads: key of its row; empty where it was not compared.
        low, high: smallest and largest value of the float tensor over all samples.
        sqnr_db: of this part of the row; None where there is no signal.
        reads_db: of the tensor before it was joined; None where that is not known.
        codes: how many codes of the row lie between `low` and `high`; 0 where the row has no scale of its own.
        alone_db: SQNR if only the scale of the row is applied to the float part; None where it has none.
    """

    tensor: str
    reads: str
    low: float
    high: float
    sqnr_db: float | None
    reads_db: float | None
    codes: int
    alone_db: float | None

    @property
    def drop_db(self) -> float | None:
        """By how much SQNR falls where it is joined; None where that is not known."""
        if self.sqnr_db is None or self.reads_db is None or math.isinf(self.sqnr_db):
            return None
        return self.reads_db - self.sqnr_db


@dataclass(frozen=True, slots=True, eq=False)
class ParameterReading:
    """A constant of an operator, other than weight and bias of a layer, in both files.

    Attributes:
        location: of the operator in the quantised file.
        tensor: its key in the quantised file.
        reference: its key in the float file.
        what: what it is to the operator, `variance` for example; empty where it has no name.
        sqnr_db: of the dequantised values against the float ones; infinite for a perfect match.
        rows, width: its rows and the values of one; a vector has rows of one value.
        lost: how many rows have less than 3 dB.
        zeros: of these, how many are zero in the quantised file and not in the float one.
        alone_db: SQNR (dB) that it alone leaves behind the operator, as far as the file tells.
    """

    location: Location
    tensor: str
    reference: str
    what: str
    sqnr_db: float | None
    rows: int
    width: int
    lost: int
    zeros: int
    alone_db: float


@dataclass(frozen=True, slots=True)
class MissingActivation:
    """An activation function of the float file that the quantised one does not have.

    Attributes:
        node, op_type: of it in the float file.
        low, high: what it keeps values within.
        stored_low, stored_high: what the codes of the quantised file keep them within.
        zero_point: of these; None where the value is no code.
        clips: it does nothing but to keep values within these ends, so that codes can do that in its place.
    """

    node: str
    op_type: str
    low: float
    high: float
    stored_low: float
    stored_high: float
    zero_point: int | None
    clips: bool = False


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
        empty: output channels of which the quantised file keeps nothing but zero.
        alone_db: SQNR (dB) at the row with this weight on the float input; None where it was not run.
    """

    tensor: str
    likeness: float
    sqnr_db: float | None
    channels_db: npt.NDArray[np.float64]
    scales: int
    excess: float
    alone_db: float | None = None
    empty: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BiasReading:
    """The bias of a layer in both files.

    Attributes:
        tensor: its key in the quantised file.
        difference: root mean square of float minus quantised, in the unit of the layer's result.
        alone_db: SQNR (dB) that this difference alone leaves at the row.
        factor: how many times the float bias it is; None where it is no multiple of it.
        alpha: what the operator multiplies the scale of its codes by.
        beta: what the float operator multiplies its bias by.
    """

    tensor: str
    difference: float
    alone_db: float
    factor: float | None = None
    alpha: float = 1.0
    beta: float = 1.0
