"""Remedies as they are printed, applied by hand: does a file made with the call gain what the report says?

    python bench/joint_remedy.py MODEL DATA [--preprocess NAME] [--channel-order rgb|bgr] [--samples 32]

Lints the model on the data, and does with each remedy what a reader would: ONNX Runtime's pre-processing, then the
printed call, with activations of 8 bits unsigned and weights of 8 bits signed, on the calibration samples of the lint.
The file runs on the samples that the verdict was measured on. Prints for each remedy the figures of the report, those
of the files without and with it, and the call. The same is done with the file as it is, without the pre-processing.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from onnxlint_q.analysis.measured import measure
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.variants.output_error import OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import JointRemedy

Samples = Callable[[], Iterator[Sample]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, samples: Samples) -> None:
        self._left = samples()

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._left, None)


def quantised(call: str, source: Path, target: Path, samples: Samples) -> None:
    """What a printed call makes of a file."""

    def quantize(rest: EllipsisType, **options: Any) -> None:
        assert rest is ...
        formats = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(source, target, _Reader(samples), **(formats | options))

    exec(call, {"quantize_static": quantize, "QuantType": QuantType, "np": np})


def sqnr_db(exact: Path, other: Path, samples: Samples) -> float:
    """SQNR over the samples of the worst output, positions left out that a mask rules out."""
    sessions = [ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (exact, other)]
    measured = measure(read_model(exact), ())
    references, error = References(measured.model, measured.outputs), OutputErrorAccumulator()
    for sample in samples():
        one, two = (session.run(None, sample) for session in sessions)
        error.add(references.of(sample, one), two)
    worst_db = error.result().worst_db
    return float("inf") if worst_db is None else worst_db


def by_hand(model: Path, source: Path, remedy: JointRemedy, samples: tuple[Samples, Samples]) -> tuple[float, float]:
    """SQNR of the files without and with a remedy; without means without its list, or its scale a channel."""
    calibration, judged = samples
    finer = remedy.nodes_to_exclude and "per_channel=True" in remedy.snippet
    figures = []
    for call in (f"quantize_static(..., per_channel={bool(finer)})", remedy.snippet):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantised(call, source, target, calibration)
            figures.append(sqnr_db(model, target, judged))
    return figures[0], figures[1]


def main() -> None:
    """Print a line for each remedy and kind of file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--preprocess", default="imagenet", choices=sorted(PRESETS))
    parser.add_argument("--channel-order", default="rgb", choices=("rgb", "bgr"))
    parser.add_argument("--samples", type=int, default=32)
    chosen = parser.parse_args()
    ort.set_default_logger_severity(3)
    how = replace(PRESETS[chosen.preprocess], channel_order=chosen.channel_order)
    source = open_source(chosen.data, how)
    rules = [entry.rule() for entry in load_rules()]
    data = DataRequest(source, chosen.samples)
    result = lint(chosen.model, rules, Config(), CheckRequest(data=data))
    for scheme in result.schemes:
        print(f"{chosen.model.stem}: {scheme.scheme} {scheme.verdict} {scheme.output_sqnr_db}", flush=True)
    take = partial(source.take, read_model(chosen.model).inputs)
    assert result.calibration is not None
    count, held_out = result.calibration.samples, result.calibration.held_out
    calibration = partial(take, count)
    judged = partial(take, held_out, count) if held_out else calibration
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        symbolic = importlib.util.find_spec("sympy") is not None
        quant_pre_process(chosen.model, prepared, skip_symbolic_shape=not symbolic)
        onnx.load(prepared)
        for remedy in result.remedies:
            said = f"{remedy.before_db:.1f} -> {remedy.after_db:.1f} dB, {remedy.verdict_after}"
            for kind, file in (("pre-processed", prepared), ("as it is", chosen.model)):
                before, after = by_hand(chosen.model, file, remedy, (calibration, judged))
                print(f"  {remedy.scheme}: said {said}; {kind} by hand {before:.1f} -> {after:.1f} dB", flush=True)
            print(f"    {remedy.snippet}", flush=True)


if __name__ == "__main__":
    main()
