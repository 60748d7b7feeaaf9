"""Standard output, standard error and the exit code of a process, whatever happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer

from onnxlint_q.errors import UsageError, as_one_line

if TYPE_CHECKING:
    from onnxlint_q.execute.progress import Progress

CLEAN, FINDINGS, NO_ANSWER = 0, 1, 2
INTERRUPTED, TERMINATED = 130, 143
"""128 and the number of the signal, as shells have it."""


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends everything as an interrupt from the keyboard does."""


def terminate(*_: object) -> None:
    """Handler of SIGTERM."""
    raise _TerminatedError


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """One sentence on stderr and the exit code for whatever goes wrong inside."""
    try:
        yield
    except KeyboardInterrupt as error:
        terminated = isinstance(error, _TerminatedError)
        complain("terminated" if terminated else "interrupted", kind="")
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from error
    except Exception as error:  # exit code 1 would say "findings"; nobody is shown a traceback
        complain(as_one_line(error))
        raise typer.Exit(NO_ANSWER) from error


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


def deliver(text: str, destination: str | None) -> None:
    """A report to its file; to standard output if `destination` is None."""
    from onnxlint_q.report import write

    if destination is None:
        say(text)
    else:
        write(text, destination)


def drop_output() -> None:
    """What is still buffered goes nowhere, or Python would complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str, kind: str = "error: ") -> None:
    """One line on stderr, whatever the names in it hold."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in message)
    with suppress(OSError):  # the exit code still tells
        typer.echo(f"onnxlint-q: {kind}{line.encode('utf-8', 'backslashreplace').decode()}", err=True)


@contextmanager
def progress_line() -> Iterator[Progress]:
    """A progress line on stderr, only where a person sees it."""
    from onnxlint_q.execute.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("reading", total=None)

        def show(stage: str, done: int, total: int) -> None:
            bars.update(task, description=stage, completed=done, total=total)

        yield show
