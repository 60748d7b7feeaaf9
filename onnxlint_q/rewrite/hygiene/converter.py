"""onnx's version converter in a process of its own.

It is native code that may crash, or never end, on a model that it does not expect; then that process does.
"""

from __future__ import annotations

import subprocess
import sys


class NotConvertibleError(Exception):
    """The converter fails; the text says why, in one line."""


def run_converter(code: str, given: bytes = b"", seconds: float = 60.0) -> bytes:
    """What Python code that calls the converter writes to its standard output.

    Args:
        code: run with no access to modules in the working directory.
        given: its standard input.
        seconds: how long it may take.

    Raises:
        NotConvertibleError: it fails, crashes or takes too long.
    """
    try:
        done = subprocess.run(
            # -P: what lies in the working directory is not imported.
            [sys.executable, "-P", "-c", code],
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotConvertibleError(f"the converter took longer than {seconds:g} seconds") from error
    if done.returncode:
        raise NotConvertibleError(_reason(done.returncode, done.stderr))
    return done.stdout


def _reason(code: int, stderr: bytes) -> str:
    """The message of the exception that ended the process."""
    if code < 0:
        return f"the converter crashed (signal {-code})"
    said = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    last = said[-1] if said else f"the converter ended with code {code}"
    return last if len(last) <= 300 else f"{last[:297]}..."
