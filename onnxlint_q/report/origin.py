"""Where a report comes from: what was typed, which versions ran, on which processor, and when if that was asked for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIBRARIES = ("onnx", "onnxruntime", "numpy")
"""What figures depend on."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a page tells of its making; nothing of the machine but its processor.

    Attributes:
        command: as typed; empty where a program asked.
        versions: of Python and the libraries.
        processor: its name, or its kind.
        made: the day and time, UTC; empty unless it was asked for.
    """

    command: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    processor: str = ""
    made: str = ""


UNTOLD = Origin()


def origin(
    arguments: Sequence[str] = (),
    *,
    paths: bool = False,
    dated: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Origin:
    """What is to be told here and now.

    Args:
        arguments: of the command line, without the program's name.
        paths: tell paths as they were typed, not their last parts.
        dated: tell when: `SOURCE_DATE_EPOCH` where that is set (reproducible-builds.org), else now.
        environment: of the process.
    """
    import platform  # pages alone tell where they come from, and these take as long as the rest of `--version`
    from importlib import metadata

    typed = shlex.join(argument if paths else _without_folder(argument) for argument in arguments)
    return Origin(
        f"onnxlint-q {typed}" if typed else "",
        (("python", platform.python_version()), *((name, metadata.version(name)) for name in LIBRARIES)),
        _processor(),
        _now(environment) if dated else "",
    )


def _without_folder(argument: str) -> str:
    """`--html=a/b.html` as `--html=b.html`; what has no folder stays."""
    from onnxlint_q.report.words.names import file_name  # words know results, which is much to load for `--version`

    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{file_name(value)}" if "/" in value or "\\" in value else argument


def _processor() -> str:
    with suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    import platform

    return platform.processor() or platform.machine()


def _now(environment: Mapping[str, str]) -> str:
    from datetime import UTC, datetime

    fixed = environment.get("SOURCE_DATE_EPOCH", "")
    when = datetime.fromtimestamp(int(fixed), UTC) if fixed.isdecimal() else datetime.now(UTC)
    return when.strftime("%Y-%m-%d %H:%M UTC")
