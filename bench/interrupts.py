"""Whether runs end cleanly wherever they are interrupted.

Usage: interrupts.py [KILLS [SEED]], 200 and 0 by default. Linux only. Each time one command on one small model is
started in an empty world of its own and gets SIGINT or SIGTERM at a moment drawn evenly from the time that it takes,
alone or with all of its processes, as a terminal does it. It must end within 10 s with exit code 130 or 143 and one
line, leave no process and no file; where it was done before, it must have ended as it does undisturbed. Exits 1 if
anything is amiss.

A signal before the first line of onnxlint-q is the interpreter's: the clock starts once signals are caught.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODEL = str(FIXTURES / "models" / "depthwise_spread.onnx")
DATA = ("--calibrate", str(FIXTURES / "data" / "calibration.npz"), "--samples", "4")
COMMANDS = {
    "static": (MODEL, "--html", "out/page.html"),
    "calibrate": (MODEL, *DATA, "--html", "out/page.html"),
    "fix": ("fix", MODEL, *DATA, "-o", "out/made.onnx"),
    "quantize": ("quantize", MODEL, *DATA, "-o", "out/made.onnx"),
}
ENDS = {signal.SIGINT: (130, "onnxlint-q: interrupted"), signal.SIGTERM: (143, "onnxlint-q: terminated")}
MOST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        code: of its exit.
        said: lines on standard error.
        left: processes of its session and files in its world.
        written: files that it was asked for.
    """

    code: int
    said: tuple[str, ...]
    left: tuple[str, ...]
    written: frozenset[str]


def run(name: str, number: signal.Signals | None = None, after: float = 0.0, *, group: bool = False) -> Ended:
    """One command in a world of its own, with a signal so many seconds after it can be caught; None for none."""
    with tempfile.TemporaryDirectory() as made:
        world = Path(made)
        folders = [world / folder for folder in ("home", "cache", "tmp", "work", "work/out")]
        for folder in folders:
            folder.mkdir()
        places = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "onnxlint_q", *COMMANDS[name]],
            cwd=world / "work",
            env={**os.environ, **{variable: str(world / folder) for variable, folder in places.items()}},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if number is not None:
            _wait_for_handlers(process)
            time.sleep(after)
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, number)
        try:
            _, said = process.communicate(timeout=MOST_SECONDS if number is not None else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            said += f"no end in {MOST_SECONDS:g} s"
        time.sleep(0.1)  # for the system to end what it was told to
        files = {str(path.relative_to(world)) for path in world.rglob("*") if path not in folders}
        written = {file for file in files if file.startswith("work/out/") and "/.onnxlint-q-" not in file}
        left = (*_session(process.pid), *sorted(files - written))
        return Ended(process.returncode, tuple(said.splitlines()), left, frozenset(written))


def _wait_for_handlers(process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def _session(leader: int) -> Iterator[str]:
    """Processes of a session that still run."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if int(session) == leader and state != "Z":
                yield f"process {entry.name}"


def faults(ended: Ended, number: signal.Signals, undisturbed: Ended) -> Iterator[str]:
    """What is amiss, in words."""
    code, line = ENDS[number]
    done = (ended.code, ended.said, ended.written) == (undisturbed.code, undisturbed.said, undisturbed.written)
    if not done and (ended.code, ended.said) != (code, (line,)):
        yield f"exit {ended.code}, said {ended.said}"
    if not done and ended.written not in {frozenset[str](), undisturbed.written}:
        yield f"wrote {sorted(ended.written)}"
    if ended.left:
        yield f"left {ended.left}"


def main() -> int:
    """Print a line for each fault and a table of all."""
    kills, seed = (*map(int, sys.argv[1:]), *(200, 0)[len(sys.argv) - 1 :])
    draw, counts = random.Random(seed), Counter[tuple[str, str]]()
    undisturbed, seconds = {}, {}
    for name in COMMANDS:
        start = time.perf_counter()
        undisturbed[name] = run(name)
        seconds[name] = time.perf_counter() - start
    for _ in range(kills):
        name, number = draw.choice(list(COMMANDS)), draw.choice(list(ENDS))
        after, group = draw.uniform(0, seconds[name]), draw.random() < 0.5
        ended = run(name, number, after, group=group)
        found = "; ".join(faults(ended, number, undisturbed[name]))
        if found:
            print(f"{name}, {number.name}{' to all' * group} after {after:.2f} s: {found}", flush=True)
        counts[name, "amiss" if found else "ended" if ended.code == ENDS[number][0] else "done before"] += 1
    print("| command | seconds | ended | done before | amiss |\n|---|---|---|---|---|")
    for name in COMMANDS:
        figures = " | ".join(str(counts[name, kind]) for kind in ("ended", "done before", "amiss"))
        print(f"| {name} | {seconds[name]:.1f} | {figures} |")
    return 1 if any(kind == "amiss" for _, kind in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
