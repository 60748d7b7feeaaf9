"""Rows of a comparison, where the error jumps, and what in the quantised file makes it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.pairing import STRANGE, PairedOperation, Pairing
from onnxlint_q.analysis.quantize import decibel
from onnxlint_q.analysis.quantizer_options import exclude, override
from onnxlint_q.calibration.compare import Measured
from onnxlint_q.comparison import ComparedRow, CompareLevels, Fault, QparamsReading
from onnxlint_q.graph import Model, QuantizedTensor, Role
from onnxlint_q.graph.constants import dequantize

Matrix = npt.NDArray[np.float32]
# What alone leaves less than so many dB over the row's own SQNR takes part in its error.
_TAKES_PART_DB = 6.0
# Clipping and span ratio that are worth a word: thresholds of the rules QP007 and QP008.
_CLIPPED, _WIDE = 0.001, 4.0
# A scale for the weight that is two bits too coarse.
_TOO_COARSE = 4.0
_CALIBRATE = "calibrate again with exactly the preprocessing and the kind of data of the deployment"


def rows(
    pairing: Pairing, measured: Measured, quantized: tuple[QuantizedTensor, ...], levels: CompareLevels
) -> tuple[ComparedRow, ...]:
    """One row a value that was compared, in data order, jumps marked and explained."""
    return tuple(_Judge(pairing, measured, quantized, levels).rows())


class _Judge:
    def __init__(
        self, pairing: Pairing, measured: Measured, quantized: tuple[QuantizedTensor, ...], levels: CompareLevels
    ) -> None:
        self.pairing, self.measured, self.levels = pairing, measured, levels
        self.makers = pairing.quantized.makers()
        self.operations = {entry.quantized: entry for entry in pairing.operations}
        weights = [pair for pair in quantized if pair.role is Role.WEIGHT]
        self.pairs = {key: pair for pair in weights for key in (pair.codes, pair.tensor)}

    def rows(self) -> Iterator[ComparedRow]:
        for value in self.pairing.values:
            if value in self.measured.errors:
                yield self._row(value)

    def _row(self, value: int) -> ComparedRow:
        error = self.measured.errors[value]
        maker = self.makers.get(value)
        entry = self.operations.get(maker) if maker is not None else None
        held = self.pairing.quantized.values[value].tensors
        reads = self._reads(value)
        weights = self._weights(entry)
        row = ComparedRow(
            node=maker.node.label if maker is not None else held[0],
            op_type=maker.node.op_type if maker is not None else "Input",
            layer=entry is not None and entry.likeness is not None,
            reference=self.pairing.reference.values[self.pairing.values[value]].tensors[0],
            quantized=held[0],
            sqnr_db=error.sqnr_db,
            qmse=error.qmse,
            qce=error.qce,
            qkl=error.qkl,
            cosine=error.cosine,
            reads_db=reads,
            drop_db=_drop(reads, error.sqnr_db),
            weight_sqnr_db=weights.sqnr_db if weights is not None else None,
            qparams=self.measured.qparams.get(value),
        )
        faults = tuple(self._faults(row, value, entry, weights))
        return replace(row, jumps=bool(faults), faults=faults)

    def _reads(self, value: int) -> float | None:
        """Worst SQNR of what makes `value`; through operations that were not compared to those before them."""
        maker = self.makers.get(value)
        if maker is None:
            return math.inf
        found: list[float] = []
        frontier, seen = list(maker.inputs), set(maker.inputs)
        while frontier:
            read = frontier.pop()
            error = self.measured.errors.get(read)
            if error is not None:
                if error.sqnr_db is not None:
                    found.append(error.sqnr_db)
                continue
            before = self.makers.get(read)
            for further in before.inputs if before is not None else ():
                if further not in seen:
                    seen.add(further)
                    frontier.append(further)
        return min(found, default=None)

    # -- why -----------------------------------------------------------------------------------------------------

    def _faults(
        self, row: ComparedRow, value: int, entry: PairedOperation | None, weights: _Weights | None
    ) -> Iterator[Fault]:
        """What makes the error jump here, worst first; nothing where it does not jump."""
        levels = self.levels
        if row.sqnr_db is None or row.drop_db is None or row.reads_db is None:
            return
        if row.drop_db <= levels.jump_db or row.sqnr_db >= levels.bad_db:
            return
        own = [*self._own(row, value, entry, weights), *self._input_faults(entry)]
        guilty = _taking_part(own, row.sqnr_db) or _taking_part(self._before(entry), row.sqnr_db)
        yield from guilty
        if not guilty and row.sqnr_db < levels.broken_db and row.reads_db >= levels.bad_db:
            yield _operator_fault(row, entry)

    def _own(
        self, row: ComparedRow, value: int, entry: PairedOperation | None, weights: _Weights | None
    ) -> Iterator[Fault]:
        if row.qparams is not None:
            yield _qparams_fault("input" if entry is None else "output", row.quantized, row.reference, row.qparams)
        if entry is not None and weights is not None:
            yield _weight_fault(entry, weights)
            yield from self._bias_fault(value, entry, weights)

    def _before(self, entry: PairedOperation | None) -> Iterator[Fault]:
        """Weights of the layers right before: channels that they lost may show only where they are read."""
        for read in entry.quantized.inputs if entry is not None else ():
            maker = self.makers.get(read)
            before = self.operations.get(maker) if maker is not None else None
            weights = self._weights(before)
            if before is not None and weights is not None:
                yield _weight_fault(before, weights)

    def _input_faults(self, entry: PairedOperation | None) -> Iterator[Fault]:
        for read in entry.quantized.inputs if entry is not None else ():
            reading, reference = self.measured.qparams.get(read), self.pairing.values.get(read)
            if reading is not None and reference is not None:
                theirs, ours = self.pairing.quantized.values[read], self.pairing.reference.values[reference]
                yield _qparams_fault("input", theirs.tensors[0], ours.tensors[0], reading)

    def _weights(self, entry: PairedOperation | None) -> _Weights | None:
        """The weights of a layer in both files; the float one folded or not, as the quantised one is."""
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
        plain = FoldedLayer(ours.layer)
        found = [
            _Weights(layer, theirs, layer.matrix(self.pairing.reference.model), other, steps, top)
            for layer in ([ours, plain] if ours.is_folded else [ours])
        ]
        return max(found, key=lambda weights: -math.inf if weights.sqnr_db is None else weights.sqnr_db)

    def _bias_fault(self, value: int, entry: PairedOperation, weights: _Weights) -> Iterator[Fault]:
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
                f"its bias differs from the float one by {math.sqrt(noise):.3g} (root mean square), which alone leaves "
                f"about {alone:.1f} dB",
                "requantise the bias as int32 with the scale of the input times that of the weight",
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """The weight of one layer in both files, `[channels, taps]`, with scale and largest code of the quantised one."""

    reference: FoldedLayer
    quantized: FoldedLayer
    exact: Matrix
    other: Matrix
    scale: npt.NDArray[np.float64]
    top: int

    @property
    def sqnr_db(self) -> float | None:
        return _sqnr(self.exact, self.other)


def _taking_part(suspects: Iterable[Fault], sqnr_db: float) -> list[Fault]:
    """Those that alone explain the error, worst first."""
    guilty = [f for f in suspects if f.alone_db is not None and f.alone_db < sqnr_db + _TAKES_PART_DB]
    return sorted(guilty, key=lambda fault: fault.alone_db or 0.0)


def _matrix(model: Model, layer: FoldedLayer, pair: QuantizedTensor | None) -> Matrix | None:
    """The folded real weight; None for an integer product whose scale was not found."""
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


def _drop(reads: float | None, sqnr: float | None) -> float | None:
    if reads is None or sqnr is None or (math.isinf(reads) and math.isinf(sqnr)):
        return None
    return reads - sqnr


def _sqnr(exact: Matrix, other: Matrix) -> float | None:
    if exact.shape != other.shape:
        return None
    noise, signal = (float(np.square(m.astype(np.float64)).sum()) for m in (exact - other, exact))
    return math.inf if noise == 0 < signal else decibel(signal, noise)


def _bias(model: Model, layer: FoldedLayer) -> npt.NDArray[np.float64] | None:
    part = layer.layer
    if part.is_float:
        return layer.bias(model).astype(np.float64)
    stored = model.constant(part.bias)
    scales = [model.constant(key) for key in (part.node.input(1), part.scale)]
    if stored is None or scales[0] is None or scales[1] is None or not np.issubdtype(stored.dtype, np.integer):
        return None
    return np.ravel(stored).astype(np.float64) * float(np.ravel(scales[0])[0]) * np.ravel(scales[1]).astype(np.float64)


def _weight_fault(entry: PairedOperation, weights: _Weights) -> Fault:
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
    excess = _excess(weights.scale, weights.top, weights.exact)
    if excess > _TOO_COARSE:
        return Fault(
            "weight",
            name,
            min(whole, mean),
            f"{said}: its scale is {excess:.3g} times what the values need",
            "give the weight the scale absmax / 127; quantisers enlarge it where the int32 bias would overflow, which "
            "a larger scale of the input or a smaller bias avoids; or keep the layer in float",
            f"quantize_static(..., {keep})" if keep else "",
        )
    return Fault(
        "weight",
        name,
        min(whole, mean),
        said,
        "give every output channel its own scale, or keep the layer in float",
        "quantize_static(..., per_channel=True)",
    )


def _excess(scale: npt.NDArray[np.float64], top: int, exact: Matrix) -> float:
    """How many times larger a scale is than the largest magnitude under it needs, median over the scales."""
    absmax = np.abs(exact).max(axis=1).astype(np.float64)
    if scale.size == 1:
        absmax = absmax.max(keepdims=True)
    if scale.size != absmax.size or not (absmax > 0).any():
        return 1.0
    return float(np.median((scale * top)[absmax > 0] / absmax[absmax > 0]))


def _qparams_fault(what: str, tensor: str, reference: str, reading: QparamsReading) -> Fault:
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
        reading.rounding_sqnr_db,
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
