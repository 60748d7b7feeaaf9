"""Standard output, standard error and the exit code of a process, whatever happens."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import typer

from onnxlint_q.cli.terminal.signals import ENDINGS, leave
from onnxlint_q.errors import OnnxlintError, UsageError, as_one_line

if TYPE_CHECKING:
    from onnxlint_q.report import ReportFormat
    from onnxlint_q.report.formats import Look

CLEAN, FINDINGS, NO_ANSWER = 0, 1, 2
DEBUG_VARIABLE = "ONNXLINT_Q_DEBUG"
"""Environment variable that says the same as `--debug`, for every command."""


class _EndedError(KeyboardInterrupt):
    """A signal that ends the process came while there was something to clean up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


def _raise(number: int, _: FrameType | None) -> None:
    raise _EndedError(number)


@contextmanager
def working() -> Iterator[None]:
    """Inside, the imports being over, there is something to clean up.

    A signal that would end the process at once is an exception, and garbage is collected, of what is made from now on.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    held = [number for number in ENDINGS if signal.getsignal(number) is leave]
    for number in held:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, leave)


def debugging(asked: bool = False) -> bool:
    """Whether `--debug` was given, or the environment says the same: not every typer reads a flag from it."""
    return asked or os.environ.get(DEBUG_VARIABLE, "") not in {"", "0"}


@contextmanager
def errors_as_one_line(debug: bool | None = None) -> Iterator[None]:
    """One sentence on stderr and the exit code for whatever goes wrong inside.

    Args:
        debug: tell the traceback of what should not happen, too; None for what the environment says.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, _EndedError) else signal.SIGINT
        complain(ENDINGS[number], kind="")
        raise typer.Exit(128 + number) from error
    except Exception as error:  # exit code 1 would say "findings"; nobody is shown a traceback unasked
        confess(error, debugging() if debug is None else debug)
        raise typer.Exit(NO_ANSWER) from error


def confess(error: Exception, debug: bool) -> None:
    """One sentence on stderr for an error; to debug, what should not happen comes with its traceback."""
    complain(as_one_line(error))
    if debug and not isinstance(error, OnnxlintError):
        tell("".join(traceback.format_exception(error)))


def report_look(*, verbose: bool, paths: bool, dated: bool, quiet: bool = False) -> Look:
    """How reports of this invocation look, with what was typed."""
    from onnxlint_q.report import terminal_look
    from onnxlint_q.report.origin import origin

    told = partial(origin, sys.argv[1:], paths=paths, dated=dated)
    return terminal_look(verbose=verbose, paths=paths, origin=told, quiet=quiet)


def say(text: str) -> None:
    """To standard output; a reader that has left has seen enough, which changes no exit code."""
    from onnxlint_q.report import write

    try:
        write(text, None)
    except BrokenPipeError:
        drop_output()
    except OSError as error:
        drop_output()
        raise UsageError(f"cannot write to standard output: {error.strerror}") from error


def deliver(
    reports: Iterable[tuple[ReportFormat, str | None]], render: Callable[[ReportFormat], str], debug: bool
) -> bool:
    """Every report to its file, the one for None to standard output; whether all of them got there.

    One that cannot be written is told on stderr and does not keep the others back.
    """
    from onnxlint_q.report import write

    delivered = True
    for report_format, destination in reports:
        try:
            text = render(report_format)
            if destination is None:
                say(text)
            else:
                write(text, destination)
        except Exception as error:  # of a disk, or of the format itself
            confess(error, debug)
            delivered = False
    return delivered


def drop_output() -> None:
    """What is still buffered goes nowhere, or Python would complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str, kind: str = "error: ") -> None:
    """One line on stderr, whatever the names in it hold."""
    _to_stderr(f"onnxlint-q: {kind}{_printable(message)}")


def show_crashes(debug: bool) -> None:
    """To debug, have Python say where it is when native code ends the process."""
    if debug:
        with suppress(ValueError, OSError):  # a stream without a descriptor
            faulthandler.enable()


def tell(text: str) -> None:
    """Lines on stderr, for who debugs."""
    for line in text.splitlines():
        _to_stderr(_printable(line))


def _printable(line: str) -> str:
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in line)
    return shown.encode("utf-8", "backslashreplace").decode()


def _to_stderr(line: str) -> None:
    with suppress(OSError):  # the exit code still tells
        typer.echo(line, err=True)
