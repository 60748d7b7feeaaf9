"""What the calibration pass costs, against plain float inference and ONNX Runtime's own min-max calibrator.

    python bench/calibration.py MODEL IMAGES [--preprocess tf] [--samples 100] [--repeats 5]

All three work on the same samples, preprocessed beforehand, in turn within each repeat; the table gives medians and the
ratio to plain inference within the same repeat. The passes run in this process, so the time of imports is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.calibration.data import ArraySource, open_source
from onnxlint_q.calibration.observe import observe
from onnxlint_q.calibration.preprocess import preset
from onnxlint_q.facts import Facts, measure
from onnxlint_q.graph import read_model

Samples = Sequence[dict[str, npt.NDArray[Any]]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, samples: Samples) -> None:
        self.samples: Iterator[dict[str, npt.NDArray[Any]]] = iter(samples)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self.samples, None)


def plain(path: Path, samples: Samples) -> None:
    """Float inference, nothing else."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for sample in samples:
        session.run(None, sample)


def min_max(path: Path, samples: Samples) -> None:
    """ONNX Runtime's min-max calibrator over all its operator types."""
    with tempfile.TemporaryDirectory() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(path, None, augmented, CalibrationMethod.MinMax)
        calibrator.collect_data(_Reader(samples))
        calibrator.compute_data()


def streaming(facts: Facts, source: ArraySource, samples: int) -> None:
    """This tool's pass: extremes, moments and quantiles of every tensor that is quantised."""
    observe(facts, source, samples)


def main() -> None:
    """Time all three and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    facts = measure(read_model(chosen.model), DEFAULT_SCHEMES)
    source = open_source(chosen.images, preset(chosen.preprocess))
    samples = [dict(sample) for sample in source.take(facts.model.inputs, chosen.samples)]
    name = facts.model.inputs[0].name
    stacked = ArraySource("images", {name: np.concatenate([sample[name] for sample in samples])})
    runs: dict[str, Callable[[], None]] = {
        "plain inference": lambda: plain(chosen.model, samples),
        "this tool": lambda: streaming(facts, stacked, len(samples)),
        "ONNX Runtime MinMax": lambda: min_max(chosen.model, samples),
    }
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(chosen.repeats):
        for label, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[label].append(time.perf_counter() - start)
    base = seconds["plain inference"]
    print(f"{chosen.model.name}, {len(samples)} samples, {chosen.repeats} repeats")
    for label, values in seconds.items():
        ratio = statistics.median(value / one for value, one in zip(values, base, strict=True))
        print(f"{label:<20} {statistics.median(values):7.2f} s  {ratio:6.2f} times plain inference")


if __name__ == "__main__":
    main()
