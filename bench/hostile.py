"""What the linter makes of hostile and odd files: exit code, time, memory, and whether it kept to its limits.

Usage: hostile.py [--mend] FOLDER [PREFIX ...]. FOLDER holds `cases.tsv`, tab-separated: `name`, `validity` (`valid`:
exit 2 is a fault), `runs` with commas between (`static`, `random`, `probe`, `npz`: `data.npz` beside `model.onnx`,
`images`: the folder of that name) and options (`watch=NAME`: a file of this name in the working directory must not be
opened). Only cases whose name starts with one of the prefixes are run. Linux only. Exits 1 if anything is amiss.

Each run is a process of its own with an address space of 6 GB, killed after 20 s; it must end within 10 s and 2 GB,
with exit code 0, 1 or 2, with 2 one plain line, and leave nothing in an empty home, cache and temporary folder.

With `--mend` every model under FOLDER is given to `fix -o` and `quantize -o` instead, without `cases.tsv`, and a run is
killed after 90 s: exit 2 writes nothing, a file that is written loads, and no message names a folder of its own.
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
MENDING_KILLED_AFTER = 90.0
MOST_SECONDS, MOST_MB = 10.0, 2048
OPENED = 0x20  # IN_OPEN of inotify
EXIT_CODES = (0, 1, 2)
OUR_LINE = re.compile(r"onnxlint-q: error: .+")
OURSELVES = "error of onnxlint-q itself"
OUT = "out/made.onnx"
MENDING = {"fix": (), "quantize": ("--calibrate", "random", "--samples", "4")}
"""Commands that write a model, and what they are given beside it."""
WRITTEN = re.compile(r"out/made(\.onnx(\.data)?|\.recipe\.json)")
OWN_FOLDER = re.compile(r"/onnxlint-q-|/\.onnxlint-q-|/tmp[a-z0-9_]{8}/(?!work|stdout|stderr)")
GHOSTSCRIPT = "#!/bin/sh\n: > ghostscript-was-started\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One run of one file."""

    path: Path
    valid: bool
    run: str
    watch: str

    @property
    def mends(self) -> bool:
        """Whether a model is to be written."""
        return self.run in MENDING

    @property
    def killed_after(self) -> float:
        """Seconds."""
        return MENDING_KILLED_AFTER if self.mends else KILLED_AFTER

    def arguments(self) -> list[str]:
        """What follows `onnxlint-q`."""
        model = self.path / "model.onnx" if self.path.is_dir() else self.path
        if self.mends:
            return [self.run, str(model), "-o", OUT, *MENDING[self.run]]
        places = {"random": "random", "npz": str(self.path / "data.npz"), "images": str(self.path / "images")}
        data = places.get(self.run)
        more = ["--calibrate", data, "--samples", "4"] if data else ["--probe"] if self.run == "probe" else []
        return [str(model), *more]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended.

    Attributes:
        code: of its exit; negative for a signal.
        loads: why ONNX Runtime does not load the model that was written; empty where it does.
    """

    code: int
    seconds: float
    peak_mb: int
    stdout: str
    stderr: str
    left_behind: tuple[str, ...]
    opened: bool
    loads: str


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


def models(folder: Path, prefixes: Sequence[str]) -> Iterator[Case]:
    """Both commands that write, for each model under a folder."""
    for path in sorted(folder.rglob("*.onnx")):
        if not prefixes or str(path.relative_to(folder)).startswith(tuple(prefixes)):
            for command in MENDING:
                yield Case(path, False, command, "")


def execute(case: Case) -> Outcome:
    """Run it in an empty world of its own."""
    with tempfile.TemporaryDirectory() as made:
        world = Path(made)
        for name in ("home", "cache", "tmp", "work", "bin", "work/out"):
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
        timer = threading.Timer(case.killed_after, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        expected = {watched, world / "stdout", world / "stderr"}
        made_folders = {world / name for name in ("home", "cache", "tmp", "work", "bin", "work/out")}
        left = [path for path in sorted(world.rglob("*")) if path not in made_folders and path.parent.name != "bin"]
        written = world / "work" / OUT
        return Outcome(
            process.returncode,
            time.perf_counter() - start,
            usage.ru_maxrss >> 10,
            (world / "stdout").read_text(errors="replace"),
            (world / "stderr").read_text(errors="replace"),
            tuple(str(path.relative_to(world)) for path in left if path not in expected),
            opened is not None and opened.happened(),
            _unloadable(written) if written.exists() else "",
        )


def _unloadable(path: Path) -> str:
    code = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    return done.stderr.strip()[-200:] if done.returncode else ""


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
    if outcome.code == -signal.SIGKILL and outcome.seconds >= case.killed_after:
        yield f"no end in {case.killed_after:g} s"
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
    yield from misplaced(case, outcome)
    if outcome.opened:
        yield f"opened {case.watch}"


def misplaced(case: Case, outcome: Outcome) -> Iterator[str]:
    """What is amiss with the files that were written."""
    places = [place.removeprefix("work/") for place in outcome.left_behind]
    if unwanted := [place for place in places if not (case.mends and WRITTEN.fullmatch(place) and outcome.code != 2)]:
        yield f"wrote {', '.join(unwanted)}"
    if case.mends and outcome.code == 0 and OUT not in places:
        yield "wrote nothing"
    if outcome.loads:
        yield f"what was written does not load: {outcome.loads}"
    if OWN_FOLDER.search(outcome.stderr):
        yield "tells a folder of its own"


def words(outcome: Outcome) -> str:
    """What it said, in short: the error, or the first finding."""
    text = (
        outcome.stderr.strip().splitlines()[-1:]
        or [line.strip() for line in outcome.stdout.splitlines() if " Q" in line or "not run" in line][:1]
    )
    return "".join(text).removeprefix("onnxlint-q: error: ").replace("|", "\\|")[-160:]


def main() -> int:
    """Print the table; the exit code tells whether every run was as it should be."""
    mending, arguments = "--mend" in sys.argv, [one for one in sys.argv[1:] if one != "--mend"]
    if not arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    amiss = total = 0
    print("| case | run | exit | s | MB | amiss | said |\n|---|---|---|---|---|---|---|")
    for case in (models if mending else cases)(Path(arguments[0]).resolve(), arguments[1:]):
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
