"""What a whole `check` of each model of a folder takes: wall time, processor time, peak memory.

    python bench/speed/whole_runs.py FOLDER [--before CHECKOUT] [--repeats 3] [--only NAME ...] [-- options of check]

Every figure is of a process of its own, start of Python and imports included, and the median of the repeats. With
`--before` another checkout of this project runs in turn with this one in every repeat, and the table has both, and the
median of the ratios within the same repeat. An option of check may hold `{name}`, which stands for the name of the
model without its ending: `-- --calibrate inputs/{name}.npz`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took: seconds by the clock and of all processors, and its peak memory and its children's, MB."""

    wall: float
    processor: float
    peak: float


def run(checkout: Path, model: Path, options: Sequence[str]) -> Cost:
    """One check in a process of its own.

    Raises:
        SystemExit: it was not an answer but a crash.
    """
    arguments = [option.replace("{name}", model.stem) for option in options]
    command = [sys.executable, __file__, "--measure", str(checkout), str(model), *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise SystemExit(f"{model.name}: {told.stderr.strip().splitlines()[-1:]}")
    return Cost(*map(float, told.stdout.split()))


def measure(checkout: str, model: str, options: Sequence[str]) -> None:
    """Run one check as the only child of this process, and print what it took."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([checkout, str(Path(checkout) / "rules")])}
    start = time.monotonic()
    # Without -P the package of the folder that this runs in stands before any other.
    command = [sys.executable, "-P", "-m", "onnxlint_q", model, *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    wall, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{checkout} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    """Field by field."""
    return Cost(
        *(statistics.median(values) for values in zip(*((c.wall, c.processor, c.peak) for c in costs), strict=True))
    )


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    wanted = parser.parse_args(sys.argv[1:split])
    options = sys.argv[split + 1 :]
    checkouts = [HERE, *([wanted.before.resolve()] if wanted.before else [])]
    heads = [f"{'model':<28}{'MB':>6}{'wall s':>9}{'CPU s':>8}{'peak MB':>9}"]
    if wanted.before:
        heads.append(f"{'before:':>10}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}{'wall ratio':>12}")
    print("".join(heads))
    for model in sorted(wanted.folder.glob("*.onnx")):
        if wanted.only and model.stem not in wanted.only:
            continue
        turns = [[run(checkout, model, options) for checkout in checkouts] for _ in range(wanted.repeats)]
        rows = [median(costs) for costs in zip(*turns, strict=True)]
        size = model.stat().st_size / 1e6
        line = f"{model.stem:<28}{size:6.1f}{rows[0].wall:9.2f}{rows[0].processor:8.2f}{rows[0].peak:9.0f}"
        for row in rows[1:]:
            ratio = statistics.median(turn[1].wall / turn[0].wall for turn in turns)
            line += f"{'':10}{row.wall:8.2f}{row.processor:8.2f}{row.peak:9.0f}{ratio:12.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
