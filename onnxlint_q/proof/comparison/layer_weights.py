"""The weight of one layer in both files, made comparable."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import sqnr_db
from onnxlint_q.analysis.pairing.match import PairedOperation, Pairing
from onnxlint_q.graph import Model, QuantizedTensor, Role
from onnxlint_q.graph.evaluate import dequantize

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """A layer in both files.

    Attributes:
        reference: the float layer, folded where the quantised weight is.
        quantized: the quantised layer.
        exact, other: their real weights, `[channels, taps]`.
        scale: of the quantised weight, one or one a channel; empty if it is not known.
        top: its largest code, 0 if that is not known.
    """

    reference: FoldedLayer
    quantized: FoldedLayer
    exact: Matrix
    other: Matrix
    scale: npt.NDArray[np.float64]
    top: int

    @property
    def sqnr_db(self) -> float | None:
        """SQNR of the weight, infinite for a perfect match; None where there is no signal."""
        with np.errstate(invalid="ignore", over="ignore"):  # a weight that is not finite has no SQNR
            error = self.exact.astype(np.float64) - self.other
            noise, signal = (float(np.square(m).sum()) for m in (error, self.exact.astype(np.float64)))
        return sqnr_db(signal, noise)

    @property
    def channels_db(self) -> npt.NDArray[np.float64]:
        """SQNR (dB) of each channel that has signal, at most 150."""
        exact = self.exact.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            power, noise = np.square(exact).sum(axis=1), np.square(exact - self.other).sum(axis=1)
        live = np.isfinite(power) & np.isfinite(noise) & (power > 0)
        return np.asarray(10 * np.log10(power[live] / np.maximum(noise[live], power[live] * 1e-15)), np.float64)

    @property
    def empty(self) -> tuple[int, ...]:
        """Channels of which nothing but zero is left."""
        gone = ~self.other.any(axis=1) & self.exact.any(axis=1)
        return tuple(np.flatnonzero(gone).tolist())

    @property
    def excess(self) -> float:
        """How many times larger a scale is than the largest magnitude under it needs, median over the scales."""
        absmax = np.abs(self.exact).max(axis=1).astype(np.float64)
        if self.scale.size == 1:
            absmax = absmax.max(keepdims=True)
        live = absmax > 0
        if self.scale.size != absmax.size or not live.any():
            return 1.0
        return float(np.median((self.scale * self.top)[live] / absmax[live]))


class WeightReader:
    """Reads the weights of paired layers."""

    def __init__(self, pairing: Pairing, quantized: Iterable[QuantizedTensor]) -> None:
        self.pairing = pairing
        weights = [pair for pair in quantized if pair.role is Role.WEIGHT]
        self.pairs = {key: pair for pair in weights for key in (pair.codes, pair.tensor)}

    def read(self, entry: PairedOperation | None) -> LayerWeights | None:
        """Both weights of a layer; None where it is none, or where the scale of an integer product is not found."""
        ours = entry.reference.layer if entry is not None else None
        theirs = entry.quantized.layer if entry is not None else None
        if ours is None or theirs is None:
            return None
        pair = self.pairs.get(theirs.layer.weight)
        other = _matrix(self.pairing.quantized.model, theirs, pair)
        if other is None:
            return None
        scale = pair.read_scale(self.pairing.quantized.model) if pair is not None else None
        steps = np.ravel(scale).astype(np.float64) if scale is not None else np.empty(0)
        top = pair.code_range[1] if pair is not None and pair.code_range is not None else 0
        # A quantiser that left the BatchNormalization where it is stored the weight before folding.
        candidates = [ours, FoldedLayer(ours.layer)] if ours.is_folded else [ours]
        model = self.pairing.reference.model
        found = [LayerWeights(layer, theirs, layer.matrix(model), other, steps, top) for layer in candidates]
        return max(found, key=lambda weights: -math.inf if weights.sqnr_db is None else weights.sqnr_db)


def _matrix(model: Model, layer: FoldedLayer, pair: QuantizedTensor | None) -> Matrix | None:
    part = layer.layer
    if part.is_float or part.scale:
        return layer.matrix(model)
    scale = pair.read_scale(model) if pair is not None else None
    if pair is None or scale is None:
        return None
    scale = scale if scale.size == 1 else np.ravel(scale)
    try:
        return part.by_channel(
            dequantize(model.constants[part.weight], scale, pair.read_zero_point(model), part.channel_axis)
        )
    except ValueError:
        return None
