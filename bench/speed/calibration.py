"""What the calibration pass costs, against plain float inference and the passes of ONNX Runtime.

    python bench/speed/calibration.py MODEL IMAGES [--preprocess tf] [--samples 100] [--repeats 5] [--without-stored]

Time. All passes work on the same samples, decoded and preprocessed beforehand, in turn within each repeat; the table
gives medians, and the median of the ratios within the same repeat. The ratio so holds neither decoding nor resizing,
nor the import of modules; it holds the loading of the session, in every row. `this tool` is the whole of
`observe`: exact extremes per tensor, per channel and per sample, histogram and moments of a regular subset of the
values, of every tensor that static quantisation rounds. `MinMax` is ONNX Runtime's min-max calibrator over all its
operator types: two numbers a tensor. `qdq_loss_debug` is collect_activations of
onnxruntime.quantization.qdq_loss_debug, which stores every activation of every sample for a comparison later; its row
holds the writing of the augmented model and the storing, and no statistics.

Memory. The peak of a process of its own for each row, and of one that only imports and loads. The 1,000
samples of the last column are the others over and over, so that they need no room.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator
from onnxruntime.quantization.qdq_loss_debug import collect_activations, modify_model_output_intermediate_tensors

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.graph import Value, read_model
from onnxlint_q.judge.facts import Facts, facts_of

MANY = 1000


class Ready(Source):
    """Samples that are in memory already, over and over."""

    def __init__(self, samples: Sequence[Sample], count: int) -> None:
        self.name = "images"
        self.ready = samples
        self.count = count

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int:
        return self.count

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        return islice(cycle(self.ready), self.count)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, source: Ready) -> None:
        self.samples: Iterator[dict[str, npt.NDArray[Any]]] = (dict(sample) for sample in source.samples(()))

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self.samples, None)


def nothing(_path: Path, _facts: Facts, _source: Ready) -> None:
    """What every process holds: modules, the model, the samples."""


def plain(path: Path, _facts: Facts, source: Ready) -> None:
    """Float inference, nothing else."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for sample in source.samples(()):
        session.run(None, dict(sample))


def streaming(_path: Path, facts: Facts, source: Ready) -> None:
    observe(facts, source, source.count)


def min_max(path: Path, _facts: Facts, source: Ready) -> None:
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(path, None, str(Path(folder) / "augmented.onnx"), CalibrationMethod.MinMax)
        calibrator.collect_data(_Reader(source))
        calibrator.compute_data()


def stored(path: Path, _facts: Facts, source: Ready) -> None:
    with tempfile.TemporaryDirectory() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        modify_model_output_intermediate_tensors(str(path), augmented)
        collect_activations(augmented, _Reader(source))


Pass = Callable[[Path, Facts, Ready], None]
RUNS: dict[str, Pass] = {
    "plain inference": plain,
    "this tool": streaming,
    "ONNX Runtime MinMax": min_max,
    "qdq_loss_debug": stored,
}


def prepared(chosen: argparse.Namespace) -> tuple[Facts, list[Sample]]:
    """The model, and its samples in memory."""
    facts = facts_of(read_model(chosen.model), DEFAULT_SCHEMES)
    source = open_source(chosen.images, preset(chosen.preprocess))
    return facts, list(source.take(facts.model.inputs, chosen.samples))


def peak(run: Pass, chosen: argparse.Namespace, count: int) -> float:
    """Largest resident size in MB of a new process that does `run`."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(run, chosen, count, sender))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    finally:
        process.join()


def _measured(run: Pass, chosen: argparse.Namespace, count: int, sender: Connection) -> None:
    facts, samples = prepared(chosen)
    run(chosen.model, facts, Ready(samples, count))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send(used / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def timed(runs: dict[str, Pass], chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each run by repeat."""
    facts, samples = prepared(chosen)
    source = Ready(samples, len(samples))
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(chosen.repeats):
        for label, run in runs.items():
            start = time.perf_counter()
            run(chosen.model, facts, source)
            seconds[label].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Time everything in turn, then measure each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-stored", action="store_true", help="leave qdq_loss_debug out: it needs gigabytes")
    chosen = parser.parse_args()
    runs = {label: run for label, run in RUNS.items() if not (chosen.without_stored and run is stored)}
    # Before this process has grown: a new one's peak starts at the size of the one that it came from.
    floor = peak(nothing, chosen, 1)
    peaks = {label: (peak(run, chosen, chosen.samples), _many(run, chosen)) for label, run in runs.items()}
    seconds = timed(runs, chosen)
    base = seconds["plain inference"]
    print(f"{chosen.model.name}, {chosen.samples} samples, {chosen.repeats} repeats, {os.cpu_count()} cores")
    print(f"{'':<21}{'ms a sample':>12}{'times plain':>13}{'peak MB':>10}{f'with {MANY}':>11}")
    print(f"{'imports and samples':<46}{floor:10.0f}")
    for label in runs:
        each = statistics.median(seconds[label]) / chosen.samples * 1e3
        ratio = statistics.median(value / one for value, one in zip(seconds[label], base, strict=True))
        print(f"{label:<21}{each:12.2f}{ratio:13.2f}{peaks[label][0]:10.0f}{peaks[label][1]:>11}")


def _many(run: Pass, chosen: argparse.Namespace) -> str:
    return "-" if run is stored else f"{peak(run, chosen, MANY):.0f}"


if __name__ == "__main__":
    main()
