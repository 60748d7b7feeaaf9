"""The rows of what was read: plain values for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CalibrationSummary:
    """What the calibration pass ran on.

    Attributes:
        source: what the user gave.
        preprocessing: what was done to each sample, in words.
        samples: how many were used for ranges and claims.
        held_out: how many others the end-to-end verdict was measured on; 0 where it had to use the same ones.
        synthetic: random values instead of data.
        observer: how ranges were taken from the samples.
        options: what asks for the preprocessing on the command line.
    """

    source: str
    preprocessing: str
    samples: int
    held_out: int
    synthetic: bool = False
    observer: str = "min-max"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodesSeen:
    """What the codes of a tensor hold: of an activation over all samples, of a constant in the file.

    Attributes:
        low, high: smallest and largest real value, before rounding where the file has it in float, else after it.
        codes: how many different codes occur; None for types of more than 8 bits.
        clipped: fraction of values more than half a step outside the representable range; None where the file holds no
            values from before the rounding.
        at_lowest, at_highest: fraction of the codes that are the smallest, and the largest one.
    """

    low: float
    high: float
    codes: int | None
    clipped: float | None
    at_lowest: float | None
    at_highest: float | None


@dataclass(frozen=True, slots=True)
class QparamsRow:
    """One pair of scale and zero point.

    Attributes:
        tensor: the real-valued tensor where the graph has one, else the codes; of a constant the one that is stored.
        codes: the tensor of codes.
        kind: activation, weight, bias, or constant for another operand that is stored.
        node, op_type: the operator that carries the pair.
        dtype: element type of the codes; empty if unknown.
        scale, zero_point: the first values, one where the pair is for the whole tensor; none of those that are known at
            run time only, or of a zero point that is no number. An omitted zero point is 0.
        scales: how many scales there are.
        axis, block_size: along which axis scales differ, and how many values share one; None for one scale a tensor.
        smallest_scale, largest_scale: of all scales; None where they are not in the file.
        low, high: smallest and largest representable value, of the widest channel or block.
        observed: None where nothing was run and the codes are not in the file.
    """

    tensor: str
    codes: str
    kind: str
    node: str
    op_type: str
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    scales: int
    axis: int | None
    block_size: int | None
    smallest_scale: float | None
    largest_scale: float | None
    low: float | None
    high: float | None
    observed: CodesSeen | None = None

    @property
    def range(self) -> float | None:
        """Largest minus smallest representable value."""
        return self.high - self.low if self.low is not None and self.high is not None else None


@dataclass(frozen=True, slots=True)
class ActivationRow:
    """What the samples showed of one tensor.

    Attributes:
        tensor, shape: its name, and its shape with `?` for what the file leaves open.
        node, op_type: what makes it; empty for an input of the model.
        low, high, mean, std: of all values of all samples, after rounding where the file holds codes only.
        zeros: fraction of them that are zero.
        outlier_ratio: largest magnitude over the standard deviation; None where all values are one.
        scale, zero_point: those of the file, or those that ONNX Runtime's quantiser would give it (uint8, ranges by
            the observer); None where it would give none.
        dtype: element type of these codes; empty without.
    """

    tensor: str
    shape: str
    node: str
    op_type: str
    low: float
    high: float
    mean: float
    std: float
    zeros: float
    outlier_ratio: float | None
    scale: float | None = None
    zero_point: int | None = None
    dtype: str = ""

    @property
    def range(self) -> float:
        """Largest minus smallest value."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class WeightFigures:
    """One weight tensor, NaN and infinities left out with their channels.

    Attributes:
        low, high, std: of all weights.
        channel_ratio: magnitude of the widest channel over that of the median one, channels of zeros left out.
        average_precision: mean range of a channel over the range of the tensor.
    """

    low: float
    high: float
    std: float
    channel_ratio: float
    average_precision: float

    @property
    def range(self) -> float:
        """Largest minus smallest weight."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class WeightRow:
    """The weight of one layer of a float file.

    Attributes:
        tensor: as it is stored.
        output: the layer's key, its result after folding.
        before: as stored.
        after: with the BatchNormalizations folded into it; the same where none is.
        norms: their names.
        widest: index of the channel with the largest magnitude after folding; None of an empty weight.
        operand: name of the weight, where the layer has several.
    """

    tensor: str
    output: str
    node: str
    op_type: str
    group: int
    depthwise: bool
    channels: int
    before: WeightFigures
    after: WeightFigures
    norms: tuple[str, ...] = ()
    widest: int | None = None
    operand: str = ""


@dataclass(frozen=True, slots=True)
class GainRow:
    """One channel of a BatchNormalization.

    Attributes:
        gain: `gamma / sqrt(variance + epsilon)`.
        ratio: its magnitude over the median of the channels that vary.
        still: the channel hardly varies in front of the normalisation.
    """

    channel: int
    gamma: float
    variance: float
    gain: float
    ratio: float
    still: bool


@dataclass(frozen=True, slots=True)
class NormRow:
    """One BatchNormalization with constant parameters.

    Attributes:
        folds_into: the layer; empty where it does not fold.
        blocked: why it does not fold; empty where it does.
        gamma_low, gamma_high, gamma_mean, gamma_std: of the stored gamma.
        gain_low, gain_high: smallest and largest magnitude of `gamma / sqrt(variance + epsilon)`.
        median_gain: median magnitude of the channels that vary.
        ratio: largest magnitude of a gain over that.
        outliers: channels whose gain is at least `OUTLIER` times the median, the largest first.
    """

    node: str
    output: str
    channels: int
    folds_into: str
    blocked: str
    gamma_low: float
    gamma_high: float
    gamma_mean: float
    gamma_std: float
    gain_low: float
    gain_high: float
    median_gain: float
    ratio: float
    outliers: tuple[GainRow, ...]


OUTLIER = 8.0
"""Gain over the median gain from which on a channel is listed: three of eight bits are lost to the others."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file is, beside its graph.

    Attributes:
        size: bytes of all its files; 0 if unknown.
        producer: what wrote it, with its version; empty if the file does not tell.
        ir_version: of ONNX.
        configuration: the file that rules were configured by; empty for the defaults.
    """

    size: int = 0
    producer: str = ""
    ir_version: int = 0
    configuration: str = ""
