"""What comparing two files found, value by value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompareLevels:
    """Where the error is said to jump.

    A row jumps where its SQNR lies more than `jump_db` below the worst of what it reads, and either it lies below
    `bad_db` and its qparams or its weight, tried alone, explain it, or it lies below `broken_db` although what it reads
    lies above `bad_db` and the float operator would not have made this of it. The error that an operator inherits and
    amplifies, because that is what the network does, is no jump.

    Attributes:
        jump_db: in healthy int8 files layers lose up to 12 dB.
        bad_db: noise of a tenth of the signal's amplitude.
        broken_db: noise of a third of it; no row of a healthy file that was measured falls so low from above `bad_db`.
    """

    jump_db: float = 6.0
    bad_db: float = 20.0
    broken_db: float = 10.0


@dataclass(frozen=True, slots=True)
class QparamsReading:
    """The qparams of a quantised tensor against what the float model has there.

    Attributes:
        scale, zero_point: one step, and the code of zero.
        low, high: smallest and largest value that the codes can represent.
        float_low, float_high: smallest and largest value of the float tensor over all samples.
        clipped_fraction: of the float tensor's values, those more than half a step outside `low` to `high`.
        used_codes, codes: codes that the float tensor's range spans inside the grid, and how many there are.
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
    used_codes: float
    codes: int
    span_ratio: float | None
    rounding_sqnr_db: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """What takes part in a jump.

    Attributes:
        what: `input`, `weight`, `bias`, `output` or `operator`.
        tensor: the tensor whose qparams are meant; for an operator its name.
        alone_db: SQNR (dB) that this alone leaves at the row; None where it was not measured.
        message: what is wrong, with the numbers.
        remedy: what to do, in words.
        snippet: options of ONNX Runtime's quantiser, where there are any.
    """

    what: str
    tensor: str
    alone_db: float | None
    message: str
    remedy: str
    snippet: str = ""


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One value that both models have.

    Attributes:
        node: label of the operator of the quantised file that makes it; of an input its name.
        op_type: operator as in the quantised file; `Input` for an input of the model.
        layer: it is the result of a layer.
        reference, quantized: tensor keys in the two files.
        sqnr_db, qmse, qce, qkl, cosine: as in `TensorError`; infinite SQNR is a perfect match.
        reads_db: worst SQNR of what the operator reads; infinite for an input, None where nothing is known.
        drop_db: by how much SQNR falls in the operator, `reads_db - sqnr_db`; None where one is unknown or both are
            infinite.
        weight_sqnr_db: SQNR of the dequantised weight against the folded float one; None where it is no layer.
        qparams: of this value in the quantised file; None where it is float or has qparams a channel or at run time.
        jumps: the error jumps here.
        faults: why, worst first, where it jumps.
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
    weight_sqnr_db: float | None = None
    qparams: QparamsReading | None = None
    jumps: bool = False
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassifierError:
    """A classifier's output, float against quantised.

    Attributes:
        agreement: fraction of samples with the same top-1.
        qmse, qce, qkl: between the softmax outputs, mean over the samples, nats.
        labelled: samples with a known class.
        float_accuracy, quantized_accuracy: top-1 on those; None without.
    """

    agreement: float
    qmse: float
    qce: float
    qkl: float
    labelled: int = 0
    float_accuracy: float | None = None
    quantized_accuracy: float | None = None
