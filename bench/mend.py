"""What mending does: files made in several ways from each float model, judged on samples that none of them has seen.

    python bench/mend.py FOLDER DATA [--samples 48] [--judged 150] [--options FILE] [--preprocess NAME]
        [--only NAME ...] [--ways WAY ...]

Each way gets the same first samples of DATA, without labels; those behind twice as many judge. A row holds the SQNR in
dB of the worst output, the fraction of samples with the float model's top class, top-1 where there are labels, and the
seconds that making the file took, start of a process included. The ways:

- `plain`, `plain per-channel`: `quant_pre_process` and `quantize_static` (QDQ, U8S8, min-max);
- `percentile`, `entropy`: the same with ONNX Runtime's own calibrators of these names, one scale a tensor;
- `fix`, `fix without data`: `onnxlint_q.fix`, then as `plain`; `fix per-channel`: then as `plain per-channel`;
- `quantize per-tensor`, `quantize`: `onnxlint_q.quantize`, with one scale a tensor and as it comes; the same `without
  data`: from synthetic inputs, and DATA only judges.

Files run as they stand, with graph optimisations off. FILE is as of against_quantizer.py, and may name `labels`.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import against_quantizer as peers
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quant_pre_process, quantize_static

import onnxlint_q
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.errors import DataError, OnnxlintError
from onnxlint_q.execute.data.labels import read_labels
from onnxlint_q.execute.data.preprocess import Preprocessing, preset
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.variants.accuracy import Accuracy, scored_output
from onnxlint_q.execute.variants.output_error import OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import read_model


@dataclass(frozen=True)
class Given:
    """One model and the samples that files are made with.

    Attributes:
        path: of the model.
        data: what `--calibrate` takes.
        how: preprocessing of images.
        samples: how many samples a way may use for ranges.
    """

    path: Path
    data: str
    how: Preprocessing
    samples: int

    @property
    def source(self) -> Source:
        return open_source(self.data, self.how)

    def take(self) -> Iterator[Sample]:
        return self.source.take(read_model(self.path).inputs, self.samples)


Way = Callable[[Given, Path], Path]
"""Makes a file in a folder."""


def plain(given: Given, folder: Path, *, per_channel: bool = False) -> Path:
    scheme = INT8_PER_CHANNEL if per_channel else INT8_PER_TENSOR
    return saved(peers.made_by_quantizer(given.path, given.take(), scheme), folder)


def calibrated(given: Given, folder: Path, *, method: CalibrationMethod) -> Path:
    ready, made = folder / "ready.onnx", folder / "made.onnx"
    try:
        quant_pre_process(str(given.path), str(ready), skip_symbolic_shape=True)
        quantize_static(
            ready,
            made,
            _Reader(given.take()),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )
    except Exception as error:  # of any type: what it meets in a graph is not foreseen
        raise NotRunnableError(f"quantize_static fails: {type(error).__name__}: {error}") from error
    return made


def fixed(given: Given, folder: Path, *, with_data: bool = True, per_channel: bool = False) -> Path:
    made = folder / "fixed.onnx"
    how = given.how if with_data and Path(given.data).is_dir() else None
    onnxlint_q.fix(given.path, made, given.data if with_data else None, preprocess=how, samples=given.samples)
    return plain(replace(given, path=made), folder, per_channel=per_channel)


def quantized(given: Given, folder: Path, *, schemes: Sequence[str] | None = None, with_data: bool = True) -> Path:
    made = folder / "quantised.onnx"
    how = given.how if with_data and Path(given.data).is_dir() else None
    data = given.data if with_data else None
    onnxlint_q.quantize(given.path, made, data, preprocess=how, samples=given.samples, schemes=schemes)
    return made


def saved(executable: Executable, folder: Path) -> Path:
    made = folder / "plain.onnx"
    onnx.save(executable.proto, made)
    return made


class _Reader:
    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples

    def get_next(self) -> dict[str, Any] | None:
        sample = next(self._samples, None)
        return None if sample is None else dict(sample)


WAYS: Mapping[str, Way] = {
    "plain": plain,
    "plain per-channel": partial(plain, per_channel=True),
    "percentile": partial(calibrated, method=CalibrationMethod.Percentile),
    "entropy": partial(calibrated, method=CalibrationMethod.Entropy),
    "fix": fixed,
    "fix per-channel": partial(fixed, per_channel=True),
    "fix without data": partial(fixed, with_data=False),
    "quantize per-tensor": partial(quantized, schemes=[INT8_PER_TENSOR.name]),
    "quantize": quantized,
    "quantize per-tensor without data": partial(quantized, schemes=[INT8_PER_TENSOR.name], with_data=False),
    "quantize without data": partial(quantized, with_data=False),
}


def judged(
    bench: Workbench, files: Mapping[str, Executable], samples: Iterator[Sample], counts: Accuracy | None
) -> None:
    """Print what each file leaves of the float model's outputs."""
    exact = Session(bench.float_model, limits=bench.limits)
    references = References(bench.measured.model, bench.outputs, bench.limits)
    runs = {name: peers.loaded(made, fused=False) for name, made in files.items()}
    sums = {name: OutputErrorAccumulator() for name in runs}
    for number, sample in enumerate(samples):
        values = exact.run(sample)
        reference = references.of(sample, values)
        for name, run in runs.items():
            found = run(sample)
            sums[name].add(reference, found)
            if counts is not None:
                counts(name, number, values, found)
    right = counts.found if counts is not None else {}
    for name, accumulator in sums.items():
        result = accumulator.result()
        worst = math.inf if result.worst_db is None else result.worst_db
        agreement = "-" if result.agreement is None else f"{result.agreement:.3f}"
        known = right.get(name)
        top1 = "-" if known is None else f"{known.quantised_accuracy:.3f} of {known.float_accuracy:.3f}"
        print(f"| {bench.measured.model.path.stem} | {name} | {worst:.1f} | {agreement} | {top1} |", flush=True)


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="FOLDER")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--judged", type=int, default=150)
    parser.add_argument("--options", type=Path)
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    chosen = parser.parse_args()
    options = json.loads(chosen.options.read_text()) if chosen.options else {}
    print("| model | file | SQNR dB | agreement | top-1 |\n|---|---|---|---|---|")
    for path in sorted(chosen.models.glob("*.onnx")):
        if chosen.only is not None and path.stem not in chosen.only:
            continue
        own = dict(options.get(path.stem, {}))
        data, labels = str(own.pop("data", chosen.data)), own.pop("labels", None)
        own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
        how = replace(preset(own.pop("preprocess", chosen.preprocess)), **own)
        try:
            one(Given(path, data, how, chosen.samples), Path(labels) if labels else None, chosen)
        except DataError as error:
            print(f"| {path.stem} | {' '.join(str(error).split())[:160]} |", flush=True)


def one(given: Given, classes: Path | None, chosen: argparse.Namespace) -> None:
    """All ways on one model; `classes` is the file with those of the samples."""
    measured = measure(read_model(given.path))
    if not measured.is_float:
        return
    with tempfile.TemporaryDirectory() as kept:
        files: dict[str, Executable] = {}
        for name in chosen.ways:
            folder = Path(kept) / name.replace(" ", "-")
            folder.mkdir()
            start = time.perf_counter()
            try:
                made = WAYS[name](given, folder)
                files[name] = Executable(onnx.load(made), {}, {})
                peers.loaded(files[name], fused=False)
            except (OnnxlintError, NotRunnableError) as error:
                files.pop(name, None)
                print(f"| {given.path.stem} | {name} | {' '.join(str(error).split())[:160]} |", flush=True)
            print(f"| {given.path.stem} | {name} | {time.perf_counter() - start:.1f} s |", flush=True)
        bench = workbench(measured)
        scored = scored_output(bench.outputs)
        first = 2 * given.samples
        labels = read_labels(classes, given.source) if classes is not None else None
        counts = Accuracy(labels, first, scored) if labels is not None and scored is not None else None
        judged(bench, files, given.source.take(measured.model.inputs, chosen.judged, first), counts)


if __name__ == "__main__":
    main()
