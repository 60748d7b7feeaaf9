"""The use case of `compare`: two files in, one comparison out. Read, pair, run, judge."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.pairing.match import Pairing, pair
from onnxlint_q.analysis.pairing.skeleton import Operation, Skeleton, skeleton
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.labels import read_labels
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.graph import Format, QuantizedTensor, detect_format, find_layers, find_quantized_tensors, read_model
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.proof.comparison.compare import Measured, run_both
from onnxlint_q.proof.comparison.compared_rows import compared_rows
from onnxlint_q.workflow.results import CalibrationSummary, ComparedFile, CompareLevels, Comparison


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What the user asked for.

    Attributes:
        source: samples to run.
        samples: how many.
        labels: file with the class of each sample; None without.
    """

    source: Source
    samples: int = 32
    labels: Path | None = None


@dataclass(frozen=True, eq=False)
class _File:
    skeleton: Skeleton
    quantized: tuple[QuantizedTensor, ...]
    format: Format
    layers: int

    @property
    def told(self) -> ComparedFile:
        model = self.skeleton.model
        return ComparedFile(model.name, model.sha256, model.opset, self.format.value, self.layers)


def compare(
    reference: Path,
    quantized: Path,
    request: CompareRequest,
    levels: CompareLevels | None = None,
    verdict_levels: VerdictLevels | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare a quantised file with its float original on the same samples.

    Raises:
        ModelError: a file cannot be read, paired with the other, or run.
        DataError: the samples or the labels cannot be read or do not fit.
        UsageError: the files are given in the wrong order.
    """
    levels, verdict_levels = levels or CompareLevels(), verdict_levels or VerdictLevels()
    clock = [time.perf_counter()]
    ours, theirs = _read(reference), _read(quantized)
    clock.append(time.perf_counter())
    if ours.format is not Format.FLOAT and theirs.format is Format.FLOAT:
        raise UsageError(
            f"{reference} is quantised ({ours.format}) and {quantized} is float: the float model comes first, "
            "`compare FLOAT QUANTISED`"
        )
    pairing = pair(ours.skeleton, theirs.skeleton)
    clock.append(time.perf_counter())
    labels = read_labels(request.labels, request.source) if request.labels is not None else None
    measured = run_both(pairing, request.source, request.samples, labels, progress)
    clock.append(time.perf_counter())
    told = compared_rows(pairing, measured, theirs.quantized, request.source, levels)
    clock.append(time.perf_counter())
    verdict, sqnr = _verdict(measured, verdict_levels)
    names = {value: held.tensors[0] for value, held in enumerate(theirs.skeleton.values)}
    return Comparison(
        reference=ours.told,
        quantized=theirs.told,
        verdict=verdict,
        output_sqnr_db=sqnr,
        classifier=measured.classifier,
        rows=told,
        calibration=CalibrationSummary(
            request.source.name,
            request.source.preprocessing,
            measured.samples,
            0,
            request.source.synthetic,
        ),
        unpaired_reference=tuple(map(_label, pairing.lost_reference)),
        unpaired_quantized=tuple(map(_label, pairing.lost_quantized)),
        not_compared=tuple(names[value] for value in sorted(measured.mismatched)),
        notes=tuple(_notes(ours, theirs, pairing, measured, labels)),
        levels=levels,
        verdict_levels=verdict_levels,
        seconds=_stages(clock),
    )


def _read(path: Path) -> _File:
    model = read_model(path)
    layers = list(find_layers(model))
    quantized = tuple(find_quantized_tensors(model))
    folded = fold_batch_norms(model, layers).layers
    return _File(skeleton(model, folded, quantized), quantized, detect_format(model), len(layers))


def _verdict(measured: Measured, levels: VerdictLevels) -> tuple[Verdict | None, float | None]:
    """Verdict and SQNR of the outputs; no verdict where nothing could be measured."""
    output = measured.output
    if not output.has_signal:
        return None, None
    sqnr = math.inf if output.sqnr_db is None else output.sqnr_db
    agreement = measured.classifier.agreement if measured.classifier is not None else None
    return levels.verdict(output.sqnr_db, agreement), sqnr


def _label(operation: Operation) -> str:
    return f"{operation.node.label} ({operation.node.op_type})"


def _notes(
    ours: _File, theirs: _File, pairing: Pairing, measured: Measured, labels: Sequence[int] | None
) -> Iterator[str]:
    if ours.format is not Format.FLOAT:
        yield f"the first file is quantised itself ({ours.format}), so errors are differences from that"
    if theirs.format is Format.FLOAT:
        yield "the second file is not quantised"
    if any(a.name != b.name for a, b in pairing.inputs):
        yield "the inputs have different names and were paired by their position"
    missing = len(ours.skeleton.model.outputs) - measured.outputs
    if missing:
        yield f"{missing} of {len(ours.skeleton.model.outputs)} outputs of the float model have no partner"
    if not measured.output.has_signal:
        yield (
            "no error could be measured at the output: it is zero, not finite, not a float, or of another shape "
            "in the other file"
        )
    if pairing.contradictions:
        yield f"{pairing.contradictions} times two ways through the graphs led to different partners; the first holds"
    if labels is not None and measured.classifier is None:
        yield "labels were given, but the output does not look like a classifier's"


def _stages(clock: Sequence[float]) -> Mapping[str, float]:
    names = ("read", "pair", "run", "judge")
    return {name: clock[i + 1] - clock[i] for i, name in enumerate(names)}
