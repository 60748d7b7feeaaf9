"""What the sensitivity table costs, against the one-at-a-time sweeps of AIMET's QuantAnalyzer on the same samples.

    python bench/aimet/sensitivity.py MODEL IMAGES [--preprocess tf] [--samples 64] [--repeats 3] [--aimet PYTHON]

Ours is told twice: the table alone (every layer's weight, result, and both, on every sample), which is what the two
sweeps are on the other side, and the whole command, from the start of the interpreter to the report: calibration, the
table, the tests of the claims and the end-to-end verdict. PYTHON is the interpreter of an environment with aimet-onnx
and pillow; of it only the two sweeps count (every group of quantisers alone enabled, then alone disabled), not its
imports, folding, calibration or plots. All take turns. On a machine that others use too the processor seconds say more
than the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.proof.sensitivity import measure_sensitivity

_SCHEMES = ("int8-per-tensor", "int8-per-tensor,int8-per-channel")


Seconds = tuple[float, float]
"""By the clock, and of the processors."""


def table(model: Path, archive: Path, samples: int, schemes: str) -> tuple[Seconds, int]:
    """What the table alone takes, with everything loaded and calibrated, and how many figures it holds."""
    facts = facts_of(read_model(model), [SCHEMES[name] for name in schemes.split(",")])
    source = open_source(str(archive), preset("imagenet"))
    observations = observe(facts, source, samples)
    bench, drawn = workbench(facts).calibrated(observations), partial(source.take, facts.model.inputs, samples)
    start, before = time.perf_counter(), time.process_time()
    found = measure_sensitivity(bench, drawn)
    seconds = time.perf_counter() - start, time.process_time() - before
    return seconds, len(found)


def ours(model: Path, archive: Path, samples: int, schemes: str) -> tuple[Seconds, int]:
    """What one command takes, and how many figures its table holds."""
    report = archive.with_suffix(".json")
    command = [sys.executable, "-m", "onnxlint_q", str(model), "--calibrate", str(archive), "--samples", str(samples)]
    command += ["--measure", "layers", "--scheme", schemes, "--exit-zero", "--output-format", f"json={report}"]
    start, before = time.perf_counter(), _children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start, _children() - before
    (found,) = json.loads(report.read_text())["models"]
    figures = [figure for layer in found["layers"] for figure in (layer["measured"] or {}).values()]
    return seconds, sum(1 + 2 * ("activation_sqnr_db" in figure) for figure in figures)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def theirs(interpreter: str, model: Path, archive: Path) -> dict[str, Any]:
    """What one run of sweep.py says."""
    script = Path(__file__).with_name("sweep.py")
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
    seconds: dict[str, list[Seconds]] = {}
    print(f"{chosen.model.name}, {chosen.samples} samples, {chosen.repeats} repeats")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "samples.npz"
        samples = [sample[value.name] for sample in source.take([value], chosen.samples)]
        arrays: dict[str, Any] = {value.name: np.concatenate(samples)}
        np.savez(archive, **arrays)
        for _ in range(chosen.repeats):
            for schemes, (what, run) in product(_SCHEMES, (("table alone", table), ("whole command", ours))):
                spent, figures = run(chosen.model, archive, chosen.samples, schemes)
                label = f"{what}, {len(schemes.split(','))} scheme(s), {figures} figures"
                seconds.setdefault(label, []).append(spent)
                print(f"  {label}: {spent[0]:.1f} s, {spent[1]:.1f} s of the processors", flush=True)
            if chosen.aimet is not None:
                found = theirs(chosen.aimet, chosen.model, archive)
                sweeps = [found["seconds"][sweep] for sweep in ("enabling", "disabling")]
                spent = sum(sweep[0] for sweep in sweeps), sum(sweep[1] for sweep in sweeps)
                label = f"AIMET, two sweeps over {found['groups']} groups, {2 * found['groups']} figures"
                seconds.setdefault(label, []).append(spent)
                print(f"  {label}: {spent[0]:.1f} s, {spent[1]:.1f} s of the processors; {found}", flush=True)
    for label, values in seconds.items():
        clock, processors = (statistics.median(value[i] for value in values) for i in (0, 1))
        print(f"{label}: {clock:.1f} s, {processors:.1f} s of the processors")
    if chosen.aimet is None:
        return
    *own, slow = seconds
    for label in own:
        pairs = list(zip(seconds[label], seconds[slow], strict=True))
        clock, processors = (statistics.median(other[i] / mine[i] for mine, other in pairs) for i in (0, 1))
        print(f"AIMET's two sweeps take {clock:.1f} times as long as {label}; {processors:.1f} times the processors")


if __name__ == "__main__":
    main()
