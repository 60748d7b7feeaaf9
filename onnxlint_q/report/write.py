"""A report reaches its file whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from onnxlint_q.errors import UsageError
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.origin import Origin

STDOUT = "-"
MIN_WIDTH, MAX_WIDTH, MAX_COLUMNS = 60, 120, 200


def write(text: str, destination: str | Path | None) -> None:
    """Write a rendered report to a file, or to standard output where `destination` is None or `-`.

    A file is written beside its destination first and then moved over it, so a reader never sees half a
    report and an earlier report survives every failure. Text is UTF-8; a lone surrogate becomes its escape.

    Raises:
        UsageError: the file cannot be written.
        BrokenPipeError: whoever read standard output has gone.
    """
    if destination is None or str(destination) == STDOUT:
        _to_stream(text, sys.stdout)
        return
    target = _target(destination)
    data = text.encode("utf-8", "backslashreplace")
    with _said_of(destination):
        _refuse_folder(target)
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device or a pipe is written to, never replaced
        else:
            _replace(target, data)


def check_writable(destination: str | Path) -> None:
    """Check that `write` could write a file now; nothing is written.

    Raises:
        UsageError: it could not.
    """
    target = _target(destination)
    with _said_of(destination):
        _refuse_folder(target)
        device = target.exists() and not target.is_file()
        place = target if device else target.parent
        place.stat()
        if not device:
            with suppress(FileNotFoundError):
                target.lstat()  # the name may be too long, or the folder a file
        if not os.access(place, os.W_OK if device else os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _target(destination: str | Path) -> Path:
    """A link is followed, so that the report lands where the link points and the link stays."""
    return Path(os.path.realpath(destination))


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def _said_of(destination: str | Path) -> Iterator[None]:
    """What is wrong with a destination, as a UsageError that names it and says what would be right."""
    try:
        yield
    except IsADirectoryError as error:
        raise UsageError(f"cannot write {destination}: it is a folder; name a file inside it") from error
    except OSError as error:
        raise UsageError(
            f"cannot write {destination}: {error.strerror or error}; name a file in a folder that exists "
            "and can be written"
        ) from error


def _beside(target: Path) -> Path:
    """A name in the same folder that nobody has."""
    return target.with_name(f".onnxlint-q-{os.urandom(8).hex()}.tmp")


def _replace(target: Path, data: bytes) -> None:
    """Put `data` at `target` in one step; the permissions of a file that is there already are kept."""
    temporary = _beside(target)
    # O_EXCL: never write through a link somebody placed under this name.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _to_stream(text: str, stream: TextIO) -> None:
    """Pipes and files get UTF-8 whatever the locale; a terminal gets what it can show."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(text)
    else:
        encoding = (stream.encoding or "utf-8") if stream.isatty() else "utf-8"
        stream.flush()
        buffer.write(text.encode(encoding, "backslashreplace"))
    stream.flush()


def terminal_look(
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    verbose: bool = False,
    paths: bool = False,
    origin: Callable[[], Origin] = Origin,
    quiet: bool = False,
) -> Look:
    """How `full` should look on `stream` (standard output if None).

    Colour only on a terminal, and not where `NO_COLOR` is set and not empty (no-color.org) or `TERM` is
    `dumb`; `FORCE_COLOR` asks for it elsewhere. Off a terminal the width is 100 columns, so that output kept
    in a file or a log does not depend on where it was made.
    """
    stream = stream or sys.stdout
    on_terminal = stream.isatty()
    colour = (on_terminal and environment.get("TERM") != "dumb") or bool(environment.get("FORCE_COLOR"))
    if environment.get("NO_COLOR"):
        colour = False
    columns = shutil.get_terminal_size().columns if on_terminal else PLAIN.width
    columns = min(max(columns, MIN_WIDTH), MAX_COLUMNS)
    return Look(min(columns, MAX_WIDTH), colour, verbose, paths, origin, quiet, columns)
