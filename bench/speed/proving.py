"""What a whole `check --calibrate` takes beside plain inference of the same samples, for growing numbers of them.

    python bench/speed/proving.py MODEL DATA [--samples 32 132 232] [--repeats 3] [--before CHECKOUT] [-- options]

All figures are processor seconds, medians of the repeats; what is compared runs in turn within each repeat. A check is
a process of its own, start of Python included. Plain inference is that of the samples that the check uses, N for ranges
and N for the verdict, one by one in one session of ONNX Runtime, without the start of Python and the loading of the
model: so `further` is what each step to more samples adds, as a multiple of what it adds to plain inference. DATA is an
.npz or a folder that holds twice as many samples as the largest number asks for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from whole_runs import HERE, run

from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.graph import read_model


def plain(model: Path, data: str, preprocess: str, count: int) -> float:
    """Processor seconds of float inference alone."""
    source, inputs = open_source(data, preset(preprocess)), read_model(model).inputs
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    spent = 0.0
    for number, sample in enumerate(source.take(inputs, count + 1)):
        start = time.process_time()
        session.run(None, dict(sample))
        spent += time.process_time() - start if number else 0.0  # the first one also makes room
    return spent


def row(
    model: Path, data: str, preprocess: str, count: int, checkouts: Sequence[Path], options: Sequence[str]
) -> list[float]:
    """Plain inference, then a check of each checkout."""
    given = ["--calibrate", data, "--samples", str(count), *options]
    if not data.endswith((".npz", ".npy")):
        given += ["--preprocess", preprocess]
    return [plain(model, data, preprocess, 2 * count), *(run(one, model, given).processor for one in checkouts)]


def main() -> None:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 132, 232])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path)
    chosen, options = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    checkouts = [HERE, *([chosen.before.resolve()] if chosen.before else [])]
    heads = [f"{'check':>9}{'times':>8}{'further':>9}", f"{'before':>9}{'times':>8}{'further':>9}"]
    print(f"{chosen.model.name}\n{'samples':>7}{'plain':>8}{''.join(heads[: len(checkouts)])}")
    last: list[float] = []
    for count in chosen.samples:
        rows = [
            row(chosen.model, chosen.data, chosen.preprocess, count, checkouts, options) for _ in range(chosen.repeats)
        ]
        base, *checks = found = [statistics.median(column) for column in zip(*rows, strict=True)]
        line = f"{count:>7}{base:8.2f}"
        for place, spent in enumerate(checks, start=1):
            further = f"{(spent - last[place]) / (base - last[0]):.1f}" if last else "-"
            line += f"{spent:9.2f}{spent / base:8.1f}{further:>9}"
        print(line, flush=True)
        last = found


if __name__ == "__main__":
    main()
