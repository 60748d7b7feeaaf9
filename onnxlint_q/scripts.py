"""Lines of Python run in a process of their own: those that a user would type.

They call native code of onnx and ONNX Runtime that may crash, or never end, on a model that it does not expect; then
that process does.
"""

from __future__ import annotations

import os
import subprocess
import sys

_SHOWN = 300


class ScriptError(Exception):
    """The lines did not run to their end; the text says why, in one line."""


def run_lines(code: str, who: str, given: bytes = b"", seconds: float = 60.0) -> bytes:
    """What lines write to their standard output.

    Args:
        code: the lines; they have no access to modules in the working directory.
        who: what messages call what is run.
        given: their standard input.
        seconds: how long they may take.

    Raises:
        ScriptError: they fail, crash or take too long.
    """
    try:
        done = subprocess.run(
            # -P: what lies in the working directory is not imported.
            [sys.executable, "-P", "-c", code],
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ScriptError(f"{who} took longer than {seconds:g} seconds") from error
    if done.returncode:
        raise ScriptError(_reason(who, done.returncode, done.stderr))
    return done.stdout


def _reason(who: str, code: int, stderr: bytes) -> str:
    """The message of the exception that ended the process."""
    if code < 0:
        return f"{who} crashed (signal {-code})"
    said = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    last = said[-1] if said else f"{who} ended with code {code}"
    return last if len(last) <= _SHOWN else f"{last[: _SHOWN - 3]}..."
