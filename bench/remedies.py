"""The remedies that a check prints, applied with ONNX Runtime's own quantiser.

    python bench/remedies.py MODELS IMAGES INPUTS [--only NAME ...] [--samples 32] [--most 12]

Each float model of MODELS is checked on its data: an .npz of its name in INPUTS, else the images, preprocessed as for
the truth (truth_table.HOW). Then each call of `quantize_static` that the check prints is typed as it stands, after
`quant_pre_process`, with uint8 activations, int8 weights, QDQ pairs and min-max ranges of the same samples, and the
file it writes is run beside the float model on the same held-out samples. A row holds the SQNR (dB) of the worst output
before and after by the check (`-` where it says untried), and of the file made so (`=` for identical outputs, `nan`
where there is none that runs). The first rows of a model are the two schemes without a remedy.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from truth_table import HOW

from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import ModelResult


@dataclass(frozen=True)
class Advice:
    """One remedy as the check tells it; figures of the worst output in dB."""

    label: str
    before_db: float | None = None
    after_db: float | None = None


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples

    def get_next(self) -> dict[str, Any] | None:
        sample = next(self._samples, None)
        return dict(sample) if sample is not None else None


def advised(result: ModelResult) -> dict[str, Advice]:
    """By call what the check says of it, each call once; first those without a remedy."""
    calls: dict[str, Advice] = {}
    for scheme in result.schemes:
        per_channel = scheme.scheme == "int8-per-channel"
        if not per_channel or result.opset >= 13:
            figures = [output.sqnr_db for output in scheme.outputs if output.sqnr_db is not None]
            known = Advice(f"no remedy, {scheme.scheme}", after_db=min(figures, default=None))
            calls[f"quantize_static(..., per_channel={per_channel})"] = known
    for finding in result.findings:
        if finding.counts and finding.snippet.startswith("quantize_static("):
            label, tried = f"{finding.code} {finding.location.label}", finding.tried
            known = Advice(label, tried.before_db, tried.after_db) if tried is not None else Advice(label)
            calls.setdefault(finding.snippet, known)
    return calls


def by_hand(path: Path, source: Source, calibrated: int, held_out: int, calls: list[str]) -> Mapping[str, float | None]:
    """SQNR (dB) of the worst output of the file that each call writes, NaN where there is none that runs."""
    bench = workbench(facts_of(read_model(path), ()))
    take = partial(source.take, bench.measured.model.inputs)
    samples = partial(take, held_out, calibrated) if held_out else partial(take, calibrated)
    found: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        ready, target = Path(folder) / "ready.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)

        def typed(_: EllipsisType, **options: Any) -> None:
            given = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, **options}
            quantize_static(ready, target, _Reader(take(calibrated)), weight_type=QuantType.QInt8, **given)

        formats = {"CalibrationMethod": CalibrationMethod, "QuantFormat": QuantFormat, "QuantType": QuantType}
        names = {"np": np, **formats, "quantize_static": typed}
        for call in calls:
            exec(call, dict(names))
            made = {call: partial(Executable, onnx.load(target), {}, {})}
            try:
                found[call] = run_variants(bench, made, samples)[call].worst_db
            except NotRunnableError as error:
                print(f"{call}: {error}", flush=True)
                found[call] = math.nan
    return found


def report(path: Path, source: Source, samples: int, most: int) -> Iterator[str]:
    """The rows of one model."""
    rules = Config().build([entry.rule for entry in load_rules()])
    result = lint(path, rules, Config(), CheckRequest(DataRequest(source, samples=samples)))
    if result.calibration is None or result.format != "float":
        yield f"| {path.stem} | {result.untested_because or 'quantised already'} | | | | |"
        return
    calls = dict(islice(advised(result).items(), most))
    made = by_hand(path, source, result.calibration.samples, result.calibration.held_out, list(calls))
    for call, known in calls.items():
        shown = call if len(call) <= 110 else f"{call[:107]}..."
        told = ("-" if db is None else f"{db:.1f}" for db in (known.before_db, known.after_db))
        hand = made[call]
        figures = " | ".join([*told, "=" if hand is None else f"{hand:.1f}"])
        yield f"| {path.stem} | {known.label} | `{shown}` | {figures} |"
    given_up = [f for f in result.findings if f.tried is not None and f.change is None]
    for said in dict.fromkeys(f.tried.said for f in given_up if f.tried is not None):
        places = [finding for finding in given_up if finding.tried is not None and finding.tried.said == said]
        yield f"| {path.stem} | {places[0].code} and {len(places) - 1} more | not printed: {said} | | | |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--only", nargs="+", help="models to check instead of all")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--most", type=int, default=12, help="calls of one model that are applied")
    chosen = parser.parse_args()
    print("| model | finding | remedy | before, dB | after, dB | by hand, dB |\n|---|---|---|---|---|---|")
    for path in sorted(chosen.models.glob("*.onnx")):
        if chosen.only is not None and path.stem not in chosen.only:
            continue
        start, given = time.perf_counter(), chosen.inputs / f"{path.stem}.npz"
        how = preset("raw") if given.is_file() else HOW.get(path.stem, preset("imagenet"))
        source = open_source(str(given if given.is_file() else chosen.images), how)
        try:
            for row in report(path, source, chosen.samples, chosen.most):
                print(row, flush=True)
        except OnnxlintError as error:
            print(f"| {path.stem} | {error} | | | | |")
        print(f"| {path.stem} | {time.perf_counter() - start:.0f} s | | | | |", flush=True)


if __name__ == "__main__":
    main()
