"""One run of AIMET's QuantAnalyzer sweeps; sensitivity.py starts it in AIMET's own environment.

    PYTHON sweep.py MODEL SAMPLES.npz

Prints one JSON object: seconds by the clock and of the processors, of folding and calibration, of the sweep that
enables one group of quantisers at a time and of the one that disables it; the number of groups, and how often the
network ran. The score of a group is the SQNR
at the output over all samples, against float outputs computed beforehand.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx.common.defs import CallbackFunc, QuantScheme
from aimet_onnx.quant_analyzer import QuantAnalyzer


def main(path: str, archive: str) -> None:
    with np.load(archive) as loaded:
        ((name, images),) = loaded.items()
    samples = [{name: image[None]} for image in images]
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    exact = [session.run(None, sample)[0].astype(np.float64) for sample in samples]
    signal = sum(float(np.square(output).sum()) for output in exact)
    runs = 0

    def forward(session: Any, *_: Any) -> list[Any]:
        nonlocal runs
        runs += len(samples)
        return [session.run(None, sample)[0] for sample in samples]

    def sqnr(session: Any, *_: Any) -> float:
        outputs = forward(session)
        noise = sum(float(np.square(a - b).sum()) for a, b in zip(outputs, exact, strict=True))
        return float(10 * np.log10(signal / max(noise, 1e-30)))

    seconds: dict[str, tuple[float, float]] = {}

    def spent(stage: str, since: tuple[float, float]) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        seconds[stage] = now[0] - since[0], now[1] - since[1]
        return now

    start = time.perf_counter(), time.process_time()
    analyzer = QuantAnalyzer(onnx.load(path), samples[0], CallbackFunc(forward), CallbackFunc(sqnr))
    sim = analyzer.create_quantsim_and_encodings(QuantScheme.min_max, 8, 8, None)
    start = spent("calibration", start)
    groups = analyzer.perform_per_layer_analysis_by_enabling_quantizers(sim)
    start = spent("enabling", start)
    analyzer.perform_per_layer_analysis_by_disabling_quantizers(sim)
    spent("disabling", start)
    print(json.dumps({"seconds": seconds, "groups": len(groups), "runs": runs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
