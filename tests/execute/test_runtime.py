"""ONNX Runtime is imported when something runs, and leaves no trace of a run but what was asked for."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FIXTURES

MODEL = str(FIXTURES / "models" / "opset11.onnx")
OTHER = str(FIXTURES / "models" / "qdq_good.onnx")
DATA = ["--calibrate", "random", "--samples", "2"]
RUNS = {
    "static": [MODEL],
    "calibrated": [MODEL, *DATA],
    "probed": [MODEL, "--probe"],
    "compared": ["compare", MODEL, OTHER, *DATA],
    "inspected": ["inspect", MODEL, *DATA],
    "fixed": ["fix", MODEL, *DATA, "-o", "out/fixed.onnx", "--html", "out/fixed.html"],
    "quantised": ["quantize", MODEL, *DATA, "-o", "out/small.onnx"],
}
WRITTEN = {
    "fixed": {"fixed.onnx", "fixed.html"},
    "quantised": {"small.onnx", "small.recipe.json"},
}
SOCKETS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""By machine, its number in the interface of system calls and that of the call `socket`."""
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_SET_SECCOMP, _SET_NO_NEW_PRIVILEGES, _FILTER = 22, 38, 2


def without_network() -> None:
    """From now on this process and its children end with SIGSYS where one opens a socket, in native code too."""
    machine, call = SOCKETS[platform.machine()]
    program = [
        (_LOAD, 0, 0, 4),  # the interface
        (_JUMP_EQUAL, 0, 2, machine),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_JUMP_EQUAL, 1, 0, call),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    held = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, held, 0, 0):
        raise OSError(ctypes.get_errno(), "this system has no such filters")


def can_forbid() -> bool:
    """Whether the filter works here: a process that opens a socket ends."""
    if sys.platform != "linux" or platform.machine() not in SOCKETS:
        return False
    try:
        opened = subprocess.run(
            [sys.executable, "-c", "import socket; socket.socket()"],
            preexec_fn=without_network,  # no other thread holds a lock that the child needs
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return opened.returncode == -signal.SIGSYS


def run(home: Path, *arguments: str, offline: bool) -> subprocess.CompletedProcess[str]:
    """The linter in one process, for a user whose home, cache and temporary folder lie in `home`, outside any CI."""
    folders = {name: home / name.lower() for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for folder in (*folders.values(), home / "out"):
        folder.mkdir()
    environment = {name: str(folder) for name, folder in folders.items()}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-B", "-m", "onnxlint_q", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=environment,
        preexec_fn=without_network if offline else None,  # as above
    )


@pytest.fixture(scope="module")
def offline() -> bool:
    """Whether runs end where one opens a socket."""
    return can_forbid()


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_written_and_no_socket_opened_that_was_not_asked_for(
    name: str, tmp_path: Path, offline: bool
) -> None:
    """The official builds write a device identifier and a database at import if nobody forbids it before."""
    done = run(tmp_path, *RUNS[name], offline=offline)
    assert done.returncode in {0, 1} and "SIGSYS" not in done.stderr + done.stdout, done.stderr[-500:]
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in written} == WRITTEN.get(name, set())
    assert {path.parent.name for path in written} <= {"out"}


@pytest.mark.parametrize("name", ["static", "calibrated"])
def test_onnx_runtime_is_imported_where_something_runs(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, *RUNS[name], "--debug", offline=False)
    assert ("onnxruntime" in done.stderr) == (name != "static")


def test_the_filter_is_no_empty_promise(offline: bool) -> None:
    if not offline:
        pytest.skip("this system cannot forbid a process to open sockets")
    code = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode == -31)"
    child = subprocess.run(
        [sys.executable, "-c", code, "import socket; socket.socket()"],
        preexec_fn=without_network,  # as above
        check=False,
    )
    assert child.returncode == 1, "children inherit it"
