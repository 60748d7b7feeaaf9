"""Why the error jumps at a row of a comparison: each suspect tried alone on the float model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import decibel
from onnxlint_q.analysis.pairing.match import STRANGE, PairedOperation, Pairing
from onnxlint_q.execute.data.source import Source
from onnxlint_q.graph import Model
from onnxlint_q.judge.quantizer_options import exclude, override
from onnxlint_q.proof.comparison.compare import Measured
from onnxlint_q.proof.comparison.isolate import Isolated, isolate
from onnxlint_q.proof.comparison.layer_weights import LayerWeights
from onnxlint_q.proof.comparison.values import ComparedRow, CompareLevels, Fault, QparamsReading

# What alone leaves less than so many dB over the row's own SQNR takes part in its error.
_TAKES_PART_DB = 6.0
# What the float operator makes of the quantised file's inputs explains an error if it leaves at most so much more.
_INHERITED_DB = 3.0
# Clipping and span ratio that are worth a word: thresholds of the rules QP007 and QP008.
_CLIPPED, _WIDE = 0.001, 4.0
# A scale for the weight that is two bits too coarse.
_TOO_COARSE = 4.0
# Operators that are run alone; each takes a session of the float model.
_ISOLATED = 16
_CALIBRATE = "calibrate again with exactly the preprocessing and the kind of data of the deployment"


class FaultFinder:
    """Decides for each row whether the error jumps there, and what makes it."""

    def __init__(self, pairing: Pairing, measured: Measured, source: Source, levels: CompareLevels) -> None:
        self.pairing, self.measured, self.source, self.levels = pairing, measured, source, levels
        self.isolated = 0

    def faults(
        self, row: ComparedRow, value: int, entry: PairedOperation | None, weights: LayerWeights | None
    ) -> Iterator[Fault]:
        """What makes the error jump here, worst first; nothing where it does not jump."""
        levels = self.levels
        if row.sqnr_db is None or row.drop_db is None or row.reads_db is None:
            return
        if row.drop_db <= levels.jump_db or row.sqnr_db >= levels.bad_db:
            return
        alone = self._isolated(value, entry, weights) if entry is not None else None
        guilty = _taking_part(self._suspects(row, value, entry, weights, alone), row.sqnr_db)
        yield from guilty
        if alone is not None and alone.inherited_db is not None and alone.inherited_db < row.sqnr_db + _INHERITED_DB:
            return
        if not guilty and row.sqnr_db < levels.broken_db and row.reads_db >= levels.bad_db:
            yield _operator_fault(row, entry)

    def _suspects(
        self,
        row: ComparedRow,
        value: int,
        entry: PairedOperation | None,
        weights: LayerWeights | None,
        alone: Isolated | None,
    ) -> Iterator[Fault]:
        if row.qparams is not None:
            what = "input" if entry is None else "output"
            yield _qparams_fault(what, row.quantized, row.reference, row.qparams, row.qparams.rounding_sqnr_db)
        yield from self._invalid_scale(row, value)
        if entry is None:
            return
        if weights is not None:
            yield _weight_fault(entry, weights, alone.weight_db if alone is not None else weights.sqnr_db)
            yield from self._bias_fault(value, weights)
        for read in entry.quantized.inputs:
            reading, reference = self.measured.qparams.get(read), self.pairing.values.get(read)
            if reading is not None and reference is not None:
                theirs, ours = self.pairing.quantized.values[read], self.pairing.reference.values[reference]
                left = alone.input_db if alone is not None else reading.rounding_sqnr_db
                yield _qparams_fault("input", theirs.tensors[0], ours.tensors[0], reading, left)

    def _invalid_scale(self, row: ComparedRow, value: int) -> Iterator[Fault]:
        pair = self.pairing.quantized.values[value].quantized
        scale = pair.read_scale(self.pairing.quantized.model) if pair is not None else None
        if scale is not None and not (np.isfinite(scale) & (scale > 0)).all():
            yield Fault(
                "output",
                row.quantized,
                -math.inf,
                "its scale is not a positive number",
                "quantise the model again; look for a tensor that is constant or not finite on the calibration data",
            )

    def _isolated(self, value: int, entry: PairedOperation, weights: LayerWeights | None) -> Isolated | None:
        if self.isolated >= _ISOLATED:
            return None
        self.isolated += 1
        return isolate(self.pairing, entry, value, weights, self.source)

    def _bias_fault(self, value: int, weights: LayerWeights) -> Iterator[Fault]:
        ours, theirs = weights.reference, weights.quantized
        error = self.measured.errors[value]
        if not theirs.layer.bias or not (ours.layer.bias or ours.is_folded):
            return
        if error.qmse is None or error.sqnr_db is None or not math.isfinite(error.sqnr_db):
            return
        exact, other = _bias(self.pairing.reference.model, ours), _bias(self.pairing.quantized.model, theirs)
        if exact is None or other is None or exact.shape != other.shape:
            return
        noise = float(np.square(exact - other).mean())
        alone = decibel(error.qmse * 10 ** (error.sqnr_db / 10), noise)
        if alone is not None:
            yield Fault(
                "bias",
                theirs.layer.bias,
                alone,
                f"its bias differs from the float one by {math.sqrt(noise):.3g} (root mean square)",
                "requantise the bias as int32 with the scale of the input times that of the weight",
            )


def _taking_part(suspects: Iterable[Fault], sqnr_db: float) -> list[Fault]:
    """Those that alone explain the error, worst first."""
    guilty = [f for f in suspects if f.alone_db is not None and f.alone_db < sqnr_db + _TAKES_PART_DB]
    return sorted(guilty, key=lambda fault: fault.alone_db or 0.0)


def _bias(model: Model, layer: FoldedLayer) -> npt.NDArray[np.float64] | None:
    part = layer.layer
    if part.is_float:
        bias = layer.bias(model)
        return None if bias is None else bias.astype(np.float64)
    stored = model.constant(part.bias)
    scales = [model.constant(key) for key in (part.node.input(1), part.scale)]
    if stored is None or scales[0] is None or scales[1] is None or not np.issubdtype(stored.dtype, np.integer):
        return None
    return np.ravel(stored).astype(np.float64) * float(np.ravel(scales[0])[0]) * np.ravel(scales[1]).astype(np.float64)


def _weight_fault(entry: PairedOperation, weights: LayerWeights, alone: float | None) -> Fault:
    name = f"{weights.quantized.layer.weight} of {entry.quantized.node.label}"
    if entry.likeness is not None and entry.likeness < STRANGE:
        said = f"the weight is not the float one, their cosine is {entry.likeness:.2f}"
        return Fault("weight", name, -math.inf, said, "quantise this layer again from the float model")
    exact, other = weights.exact.astype(np.float64), weights.other.astype(np.float64)
    whole = weights.sqnr_db
    if whole is None or not math.isfinite(whole):
        return Fault("weight", name, whole, "the weight is the float one", "")
    power, noise = np.square(exact).sum(axis=1), np.square(exact - other).sum(axis=1)
    live = power > 0
    channels = 10 * np.log10(power[live] / np.maximum(noise[live], power[live] * 1e-15))
    mean = float(channels.mean())
    said = (
        f"the dequantised weight has {whole:.1f} dB against the folded float one, {mean:.1f} dB in the mean of its "
        f"{power.size} channels, {int(np.count_nonzero(channels < 3))} of them less than 3 dB"
    )
    keep = exclude([entry.reference.node])
    excess = weights.excess
    if excess > _TOO_COARSE:
        return Fault(
            "weight",
            name,
            alone,
            f"{said}: its scale is {excess:.3g} times what the values need",
            "give the weight the scale absmax / 127; quantisers enlarge it where the int32 bias would overflow, which "
            "a larger scale of the input or a smaller bias avoids; or keep the layer in float",
            f"quantize_static(..., {keep})" if keep else "",
        )
    return Fault(
        "weight",
        name,
        alone,
        said,
        "give every output channel its own scale, or keep the layer in float",
        "quantize_static(..., per_channel=True)",
    )


def _qparams_fault(what: str, tensor: str, reference: str, reading: QparamsReading, alone: float | None) -> Fault:
    parts = []
    held = f"its codes hold {reading.low:.3g} to {reading.high:.3g}"
    spans = f"the float tensor spans {reading.float_low:.3g} to {reading.float_high:.3g}"
    if reading.span_ratio is not None and reading.span_ratio > _WIDE:
        parts.append(f"{reading.span_ratio:.0f} times too wide, {reading.used_codes:.0f} of {reading.codes} codes used")
    if reading.clipped_fraction > _CLIPPED:
        parts.append(f"{100 * reading.clipped_fraction:.3g} % of the values are clipped")
    if not parts:
        parts.append(f"one step is {reading.scale:.3g}")
    return Fault(
        what,
        tensor,
        alone,
        f"scale {reading.scale:.6g} and zero point {reading.zero_point}: {held}, {spans}: {', '.join(parts)}",
        f"{_CALIBRATE}, or give the tensor its range",
        override(reference, min(reading.float_low, 0.0), max(reading.float_high, 0.0)),
    )


def _operator_fault(row: ComparedRow, entry: PairedOperation | None) -> Fault:
    if entry is None:
        return Fault("input", row.quantized, None, "nothing in the file says why", _CALIBRATE)
    return Fault(
        "operator",
        entry.quantized.node.label,
        None,
        f"no qparams of it explain the jump: the {row.op_type} reads fine differences of its inputs, or computes "
        "something else than in the float model",
        "compare attributes and operands of the two operators; if they are the same, keep this one in float",
        exclude([entry.reference.node]),
    )
