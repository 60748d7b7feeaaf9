"""Signals that end the process, before there is anything to clean up."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""What the process says when one of these ends it; its exit code is 128 and the number, as shells have it."""


def leave(number: int, _: FrameType | None) -> None:
    """Handler while there is nothing to clean up: no frame that is being imported gets an exception to stumble over."""
    with suppress(OSError):
        os.write(2, f"onnxlint-q: {ENDINGS[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)
