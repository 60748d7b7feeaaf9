"""How far a static check is from reading the file: whole processes, as ratios.

    python bench/limits.py [--repeats 5] [--only NAME ...] [--before CHECKOUT]

Every figure is of a process of its own, start of Python and imports included. The limit is a process that imports onnx
and numpy, loads the file with `onnx.load` and takes one maximum over every weight; it runs in turn with the check in
every repeat. The table has medians, and the medians of the ratios within one repeat. Memory is the largest process of
the run. With `--before` another checkout of this project takes its turn too.

Models are made by `speed/models.py`, apart, because the peak of a process starts at the size of the one that started
it. That of 10 GB has no limit beside it, because `onnx.load` would hold it several times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parents[1]
MODELS = HERE / "bench" / "speed" / "models.py"
LIMIT = """
import sys, numpy, onnx
from onnx import numpy_helper
for path in sys.argv[1:]:
    for tensor in onnx.load(path).graph.initializer:
        numpy_helper.to_array(tensor).max()
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process and its children took: seconds by the clock and of all processors, and the largest one's MB."""

    wall: float
    processor: float
    peak: float


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure.

    Attributes:
        name: of the row.
        models: which are made, if any.
        marks: what it should keep to: `wall`, `cpu` in times the limit; `seconds` by the clock; `peak` in MB.
        limited: whether the limit runs beside it.
        words: what else stands behind the command.
        code: the exit code that it ends with; None for a check of a model.
    """

    name: str
    models: str
    marks: Mapping[str, float]
    limited: bool = True
    words: tuple[str, ...] = ()
    code: int | None = None


CASES = (
    Case("14 MB", "mobile", {"wall": 3, "cpu": 4}),
    Case("1 GB", "wide", {"wall": 2, "peak": 700}),
    Case("10 GB", "holes", {"peak": 1000}, limited=False),
    Case("30,000 nodes", "deep", {"seconds": 6}),
    Case("20 small", "small", {"seconds": 3}),
    Case("version", "", {"seconds": 0.1}, limited=False, words=("--version",), code=0),
    Case("wrong option", "", {"seconds": 0.1}, limited=False, words=("model.onnx", "--wrong"), code=2),
)


def cost(command: Sequence[str], codes: set[int], checkout: Path = HERE) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: it ended with another code than these.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as if installed
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "rules")])}
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall, code = time.monotonic() - start, os.waitstatus_to_exitcode(status)
    process.returncode = code  # it was waited for here
    if code not in codes:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def made(models: str, folder: str) -> list[str]:
    """Paths of new models."""
    if not models:
        return []
    told = subprocess.run([sys.executable, MODELS, models, folder], stdout=subprocess.PIPE, text=True, check=True)
    return told.stdout.split()


def measured(case: Case, checkouts: Sequence[Path], repeats: int) -> tuple[list[list[Cost]], list[Cost]]:
    """Costs of each checkout by repeat, and those of the limit."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*made(case.models, folder), *case.words]
        # -P: without it the package of the working directory stands before any other.
        tool = [sys.executable, "-P", "-m", "onnxlint_q", *arguments]
        codes = {0, 1} if case.code is None else {case.code}
        turns, limits = [], []
        for _ in range(repeats):
            turns.append([cost(tool, codes, checkout) for checkout in checkouts])
            if case.limited:
                limits.append(cost([sys.executable, "-c", LIMIT, *arguments], {0}))
        return [list(column) for column in zip(*turns, strict=True)], limits


def row(costs: Sequence[Cost], limits: Sequence[Cost], marks: Mapping[str, float]) -> str:
    """Medians, ratios, and whether the marks are kept."""
    found = {
        "seconds": median(cost.wall for cost in costs),
        "processor": median(cost.processor for cost in costs),
        "peak": median(cost.peak for cost in costs),
    }
    if limits:
        pairs = list(zip(costs, limits, strict=True))
        found["wall"] = median(cost.wall / limit.wall for cost, limit in pairs)
        found["cpu"] = median(cost.processor / limit.processor for cost, limit in pairs)
    ratios = "".join(f"{found[key]:>9.2f}" if key in found else f"{'-':>9}" for key in ("wall", "cpu"))
    kept = ", ".join(f"{key} <= {most:g}: {'kept' if found[key] <= most else 'missed'}" for key, most in marks.items())
    return f"{found['seconds']:>9.2f}{found['processor']:>9.2f}{found['peak']:>9.0f}{ratios}   {kept}"


def main() -> None:
    """Measure each case and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], choices=[case.name for case in CASES])
    parser.add_argument("--before", type=Path)
    chosen = parser.parse_args()
    checkouts = {"": HERE} if chosen.before is None else {"before": chosen.before.resolve(), "now": HERE}
    heads = ("wall s", "CPU s", "peak MB", "x wall", "x CPU")
    print(f"{'':<20}{''.join(f'{head:>9}' for head in heads)}   marks")
    for case in CASES:
        if chosen.only and case.name not in chosen.only:
            continue
        columns, limits = measured(case, list(checkouts.values()), chosen.repeats)
        for label, costs in zip(checkouts, columns, strict=True):
            print(f"{f'{case.name} {label}'.rstrip():<20}{row(costs, limits, case.marks)}", flush=True)
        if limits:
            print(f"{'  limit':<20}{row(limits, limits, {})}", flush=True)


if __name__ == "__main__":
    main()
