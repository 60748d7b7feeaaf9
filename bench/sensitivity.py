"""What the sensitivity table costs, against the one-at-a-time sweeps of AIMET's QuantAnalyzer on the same samples.

    python bench/sensitivity.py MODEL IMAGES [--preprocess tf] [--samples 64] [--repeats 3] [--aimet PYTHON]

Ours is the whole command, from the start of the interpreter to the report: calibration, the table (every layer's
weight, result, and both, on every sample), the tests of the claims and the end-to-end verdict; once for one scheme and
once for the two default ones. PYTHON is the interpreter of an environment with aimet-onnx and pillow; of it only the
two sweeps count (every group of quantisers alone enabled, then alone disabled), not its imports, folding, calibration
or plots. The two take turns. A forward pass is one sample through the network in one variant.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from onnxlint_q.calibration.data import open_source
from onnxlint_q.calibration.preprocess import preset
from onnxlint_q.graph import read_model

_SCHEMES = ("int8-per-tensor", "int8-per-tensor,int8-per-channel")


def ours(model: Path, archive: Path, samples: int, schemes: str) -> tuple[float, int]:
    """Seconds of one command, and the variants that its table holds."""
    report = archive.with_suffix(".json")
    command = [sys.executable, "-m", "onnxlint_q", str(model), "--calibrate", str(archive), "--samples", str(samples)]
    command += ["--measure", "layers", "--scheme", schemes, "--exit-zero", "--output-format", f"json={report}"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    (found,) = json.loads(report.read_text())["models"]
    figures = [figure for layer in found["layers"] for figure in (layer["measured"] or {}).values()]
    return seconds, sum(1 + 2 * ("activation_sqnr_db" in figure) for figure in figures)


def theirs(interpreter: str, model: Path, archive: Path) -> dict[str, Any]:
    """What one run of aimet_sweep.py says."""
    script = Path(__file__).with_name("aimet_sweep.py")
    done = subprocess.run([interpreter, str(script), str(model), str(archive)], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--aimet", help="interpreter of an environment with aimet-onnx")
    chosen = parser.parse_args()
    (value,) = read_model(chosen.model).inputs
    source = open_source(chosen.images, preset(chosen.preprocess))
    seconds: dict[str, list[float]] = {}
    print(f"{chosen.model.name}, {chosen.samples} samples, {chosen.repeats} repeats")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "samples.npz"
        arrays = [sample[value.name] for sample in source.take([value], chosen.samples)]
        np.savez(archive, allow_pickle=False, **{value.name: np.concatenate(arrays)})
        for _ in range(chosen.repeats):
            for schemes in _SCHEMES:
                spent, figures = ours(chosen.model, archive, chosen.samples, schemes)
                label = f"this tool, {len(schemes.split(','))} scheme(s), {figures} figures"
                seconds.setdefault(label, []).append(spent)
                print(f"  {label}: {spent:.1f} s", flush=True)
            if chosen.aimet is not None:
                found = theirs(chosen.aimet, chosen.model, archive)
                spent = found["seconds"]["enabling"] + found["seconds"]["disabling"]
                label = f"AIMET, two sweeps over {found['groups']} groups, {2 * found['groups']} figures"
                seconds.setdefault(label, []).append(spent)
                print(f"  {label}: {spent:.1f} s; {found}", flush=True)
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    for label, median in medians.items():
        print(f"{label}: {median:.1f} s")
    for label, values in list(seconds.items())[: len(_SCHEMES)] if chosen.aimet is not None else ():
        *_, (_, slow) = seconds.items()
        ratio = statistics.median(other / own for own, other in zip(values, slow, strict=True))
        print(f"AIMET's two sweeps take {ratio:.0f} times the time of {label}")


if __name__ == "__main__":
    main()
