"""One run of AIMET's mending; the figures of bench/mend.py stand beside it. To be started in AIMET's own environment.

    PYTHON equalise.py MODEL SAMPLES.npz JUDGED.npz [--adaround ITERATIONS]

MODEL is float, with one input and class scores as its first output. The archives hold arrays with samples along the
first axis, those to calibrate on and others to judge on, and `labels` beside the latter where they are known. The
steps: BatchNormalizations folded, cross-layer equalisation, AdaRound where it is asked for, and ranges by min-max (8
bits, one scale a tensor, weights symmetric). This version of AIMET has no bias correction for ONNX. Prints one JSON
object: seconds of mending, SQNR in dB against the float outputs, agreement of the top class, and top-1 of the simulated
model and of the float one.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx import QuantizationSimModel, apply_adaround
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.common.defs import QuantScheme
from aimet_onnx.cross_layer_equalization import equalize_model


def scores(session: Any, samples: list[dict[str, Any]]) -> Any:
    return np.concatenate([np.asarray(session.run(None, sample)[0]) for sample in samples]).astype(np.float64)


def main() -> None:
    """Mend, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("samples")
    parser.add_argument("judged")
    parser.add_argument("--adaround", type=int, default=0)
    chosen = parser.parse_args()
    model = onnx.load(chosen.model)
    name = model.graph.input[0].name
    calibrating = [{name: image[None]} for image in np.load(chosen.samples)[name]]
    with np.load(chosen.judged) as held:
        judged, labels = [{name: image[None]} for image in held[name]], held.get("labels")
    exact = scores(ort.InferenceSession(chosen.model, providers=["CPUExecutionProvider"]), judged)
    start = time.perf_counter()
    fold_all_batch_norms_to_weight(model)
    equalize_model(model)
    sim = QuantizationSimModel(model, quant_scheme=QuantScheme.min_max, dummy_input=calibrating[0])
    if chosen.adaround:
        apply_adaround(sim, calibrating, chosen.adaround)
    sim.compute_encodings(calibrating)
    seconds = time.perf_counter() - start
    found = scores(sim.session, judged)
    noise = float(np.square(found - exact).sum())
    print(
        json.dumps(
            {
                "seconds": seconds,
                "sqnr_db": float(10 * np.log10(np.square(exact).sum() / max(noise, 1e-30))),
                "agreement": float((found.argmax(1) == exact.argmax(1)).mean()),
                "top1": None if labels is None else float((found.argmax(1) == labels).mean()),
                "float_top1": None if labels is None else float((exact.argmax(1) == labels).mean()),
            }
        )
    )


if __name__ == "__main__":
    main()
