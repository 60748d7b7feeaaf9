"""Lines of Python run in a process of their own: those that a user would type.

They call native code of onnx and ONNX Runtime that may crash, or never end, on a model that it does not expect; then
that process does. It leaves when the process that started it does, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys

_SHOWN = 300
# onnx names files of weights by the address of the network card, which it opens a socket for, and the time.
_NAMELESS = "import uuid as _uuid; _uuid.uuid1 = _uuid.uuid4\n"
# Nothing is written to that pipe; it ends with the process that started the lines.
_LEAVE_AFTER = """
import os as _os, threading as _threading
_threading.Thread(target=lambda: (_os.read({}, 1), _os._exit(1)), daemon=True).start()
"""


class ScriptError(Exception):
    """The lines did not run to their end; the text says why, in one line."""


def run_lines(code: str, who: str, seconds: float, given: bytes = b"") -> bytes:
    """What the lines write to their standard output.

    Args:
        code: the lines.
        who: what messages call what is run.
        seconds: how long they may take.
        given: their standard input.

    Raises:
        ScriptError: they fail, crash or take too long.
    """
    ends = os.pipe() if os.name == "posix" else ()  # elsewhere a process is given no descriptors
    try:
        done = subprocess.run(
            # -P: what lies in the working directory is not imported.
            [sys.executable, "-P", "-c", "".join((*map(_LEAVE_AFTER.format, ends[:1]), _NAMELESS, code))],
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
            pass_fds=ends[:1],
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ScriptError(f"{who} took longer than {seconds:g} seconds") from error
    finally:
        for end in ends:
            os.close(end)
    if done.returncode < 0:
        raise ScriptError(f"{who} crashed (signal {-done.returncode})")
    if done.returncode:
        said = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        last = said[-1] if said else f"{who} ended with code {done.returncode}"
        raise ScriptError(last if len(last) <= _SHOWN else f"{last[: _SHOWN - 3]}...")
    return done.stdout
