"""What the linter makes of hostile and odd files: exit code, time, memory, and whether it kept to its limits.

Usage: hostile.py FOLDER [PREFIX ...]. FOLDER holds `cases.tsv`, tab-separated: `name`, `validity` (`valid`: exit 2 is a
fault), `runs` with commas between (`static`, `random`, `probe`, `npz`: `data.npz` beside `model.onnx`, `images`: the
folder of that name) and options (`watch=NAME`: a file of this name in the working directory must not be opened). Only
cases whose name starts with one of the prefixes are run. Linux only. Exits 1 if anything is amiss.

Each run is a process of its own with an address space of 6 GB, killed after 20 s; it must end within 10 s and 2 GB,
with exit code 0, 1 or 2, with 2 one plain line, and leave nothing in an empty home, cache and temporary folder.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ADDRESS_SPACE, KILLED_AFTER = 6 << 30, 20.0
MOST_SECONDS, MOST_MB = 10.0, 2048
OPENED = 0x20  # IN_OPEN of inotify
EXIT_CODES = (0, 1, 2)
OUR_LINE = re.compile(r"onnxlint-q: error: .+")
OURSELVES = "error of onnxlint-q itself"
GHOSTSCRIPT = "#!/bin/sh\n: > ghostscript-was-started\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One run of one file."""

    path: Path
    valid: bool
    run: str
    watch: str

    def arguments(self) -> list[str]:
        """What follows `onnxlint-q`."""
        model = self.path / "model.onnx" if self.path.is_dir() else self.path
        places = {"random": "random", "npz": str(self.path / "data.npz"), "images": str(self.path / "images")}
        data = places.get(self.run)
        more = ["--calibrate", data, "--samples", "4"] if data else ["--probe"] if self.run == "probe" else []
        return [str(model), *more]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended; `code` is negative for a signal."""

    code: int
    seconds: float
    peak_mb: int
    stdout: str
    stderr: str
    left_behind: tuple[str, ...]
    opened: bool


def cases(folder: Path, prefixes: Sequence[str]) -> Iterator[Case]:
    """The runs that `cases.tsv` names."""
    for line in (folder / "cases.tsv").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, validity, runs, *options = line.split("\t")
        watch = next((option.removeprefix("watch=") for option in options if option.startswith("watch=")), "")
        if not prefixes or name.startswith(tuple(prefixes)):
            for run in runs.split(","):
                yield Case(folder / name, validity == "valid", run, watch)


def execute(case: Case) -> Outcome:
    """Run it in an empty world of its own."""
    with tempfile.TemporaryDirectory() as made:
        world = Path(made)
        for name in ("home", "cache", "tmp", "work", "bin"):
            (world / name).mkdir()
        (world / "bin" / "gs").write_text(GHOSTSCRIPT)
        (world / "bin" / "gs").chmod(0o755)
        environment = {
            "PATH": f"{world / 'bin'}:{os.environ['PATH']}",
            "HOME": str(world / "home"),
            "XDG_CACHE_HOME": str(world / "cache"),
            "TMPDIR": str(world / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        watched = world / "work" / case.watch if case.watch else None
        if watched:
            watched.write_bytes(bytes(1 << 16))
        opened = _OpenWatch(watched) if watched else None
        start = time.perf_counter()
        with (world / "stdout").open("wb") as stdout, (world / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "onnxlint_q", *case.arguments()],
                cwd=world / "work",
                env=environment,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=_limit,  # noqa: PLW1509  # no other thread holds a lock that the child needs
            )
        timer = threading.Timer(KILLED_AFTER, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        expected = {watched, world / "stdout", world / "stderr"}
        left = [path for path in sorted(world.rglob("*")) if path.is_file() and path.parent.name != "bin"]
        return Outcome(
            process.returncode,
            time.perf_counter() - start,
            usage.ru_maxrss >> 10,
            (world / "stdout").read_text(errors="replace"),
            (world / "stderr").read_text(errors="replace"),
            tuple(str(path.relative_to(world)) for path in left if path not in expected),
            opened is not None and opened.happened(),
        )


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _OpenWatch:
    """Tells whether anybody opened a file since."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(path), OPENED) < 0:
            raise OSError(ctypes.get_errno(), "cannot watch", str(path))

    def happened(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False
        finally:
            os.close(self._descriptor)


def faults(case: Case, outcome: Outcome) -> Iterator[str]:
    """What is amiss, in words."""
    lines = outcome.stderr.splitlines()
    if outcome.code == -signal.SIGKILL and outcome.seconds >= KILLED_AFTER:
        yield f"no end in {KILLED_AFTER:g} s"
    elif outcome.code < 0:
        yield f"signal {-outcome.code}"
    elif outcome.code not in EXIT_CODES:
        yield f"exit code {outcome.code}"
    elif case.valid and outcome.code == 2:
        yield "valid, but exit 2"
    if outcome.code == 2 and len(lines) != 1 and "QX" not in outcome.stdout:
        yield f"{len(lines)} lines on stderr"
    raw = next((line for line in lines if not OUR_LINE.fullmatch(line)), None)
    if raw is not None:
        yield f"raw text {raw.strip()[:60]!r}"
    if OURSELVES in outcome.stderr:
        yield "an error of its own"
    if "rule-crashed" in outcome.stdout:
        yield "a rule crashed"
    if outcome.seconds > MOST_SECONDS:
        yield f"over {MOST_SECONDS:g} s"
    if outcome.peak_mb > MOST_MB:
        yield f"over {MOST_MB} MB"
    if outcome.left_behind:
        yield f"wrote {', '.join(outcome.left_behind)}"
    if outcome.opened:
        yield f"opened {case.watch}"


def words(outcome: Outcome) -> str:
    """What it said, in short: the error, or the first finding."""
    text = (
        outcome.stderr.strip().splitlines()[-1:]
        or [line.strip() for line in outcome.stdout.splitlines() if " Q" in line or "not run" in line][:1]
    )
    return "".join(text).removeprefix("onnxlint-q: error: ").replace("|", "\\|")[-160:]


def main() -> int:
    """Print the table; the exit code tells whether every run was as it should be."""
    if len(sys.argv) < 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    amiss = total = 0
    print("| case | run | exit | s | MB | amiss | said |\n|---|---|---|---|---|---|---|")
    for case in cases(Path(sys.argv[1]).resolve(), sys.argv[2:]):
        outcome = execute(case)
        found = "; ".join(faults(case, outcome))
        total += 1
        amiss += bool(found)
        figures = f"{outcome.code} | {outcome.seconds:.1f} | {outcome.peak_mb}"
        print(f"| {case.path.name} | {case.run} | {figures} | {found or 'ok'} | {words(outcome)} |", flush=True)
    print(f"\n{amiss} of {total} runs are amiss")
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main())
