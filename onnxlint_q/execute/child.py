"""A task in a process of its own: a crash of native code costs that task, and the process that asked for it goes on.

The child is a fork where that is safe, so that nothing is imported twice, else a fresh interpreter. It leaves when the
process that started it does, however that ends. What libraries write to its streams goes nowhere: it is no answer.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

from onnxlint_q.errors import DefectError, OnnxlintError, with_place
from onnxlint_q.execute.progress import Progress

Result = TypeVar("Result")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ChildEndedError(Exception):
    """The process of a task ended before the task did; the text says how and what it was doing."""


def run_apart(task: Callable[[Progress], Result], progress: Progress) -> Result:
    """`task(progress)`, computed in a child process.

    Raises:
        ChildEndedError: the child was ended by a signal, or left without an answer.
        OnnxlintError, OSError: the task raised it.
        DefectError: the task raised anything else.
    """
    (outcome,) = run_each_apart([task], progress)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_each_apart(
    tasks: Sequence[Callable[[Progress], Result]], progress: Progress
) -> Generator[Result | Exception, None, None]:
    """The outcome of each task in turn: its result, or the exception that `run_apart` would raise.

    One child does them one after another; where one ends it, another child goes on with the next.

    Args:
        tasks: each takes a listener; they and their results have to be picklable.
        progress: told what the child tells.
    """
    done = 0
    while done < len(tasks):
        for outcome in _in_one_child(tasks[done:], progress):
            done += 1
            yield outcome


def _in_one_child(
    tasks: Sequence[Callable[[Progress], Result]], progress: Progress
) -> Generator[Result | Exception, None, None]:
    """Outcomes of tasks until all are done, or the child has ended, which is the last of them."""
    method = _start_method()
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(  # type: ignore[attr-defined]  # every context has it
        target=_serve, args=(tasks, theirs, ours if method == "fork" else None), daemon=True
    )
    try:
        # From Python 3.12 on a fork warns of any thread; those of the BLAS end before it and start again after it.
        with _signals_held(), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            child.start()
        theirs.close()
        for _ in tasks:
            doing = "starting"
            try:
                while (told := ours.recv())[0] == "doing":
                    _, doing, done, total = told
                    progress(doing, done, total)
            except (EOFError, ConnectionError):
                child.join()
                yield ChildEndedError(f"{_ending(child.exitcode)} while {doing}")
                return
            yield told[1]
    finally:
        if child.pid is not None:
            child.kill()
            child.join()
        ours.close()


def _start_method() -> str:
    """Fork only a process that no other thread runs in, and none that ONNX Runtime keeps state of its own in."""
    quiet = threading.active_count() == 1 and "onnxruntime" not in sys.modules
    can_fork = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    return "fork" if quiet and can_fork else "spawn"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come inside wait: a child that is only half there would answer them too."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(tasks: Sequence[Callable[[Progress], object]], connection: Connection, other_end: Connection | None) -> None:
    """The child: compute, answer, and so on. Ctrl-C reaches it too, and is left to the process that started it."""
    if other_end is not None:
        other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    faulthandler.disable()
    threading.Thread(target=_leave_with, args=(connection,), daemon=True).start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    for task in tasks:
        outcome: object
        try:
            outcome = task(lambda *told: connection.send(("doing", *told)))
        except (OnnxlintError, OSError) as error:
            outcome = error
        except Exception as error:  # of whatever kind, picklable or not: its text is what is told
            outcome = DefectError(with_place(error))
        connection.send(("outcome", outcome))


def _leave_with(connection: Connection) -> None:
    """Wait for the other end, which never says anything, to close."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _ending(code: int | None) -> str:
    """How a process ended, in words: negative codes are signals."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    memory = " (as the system does where memory runs out)" if name == "SIGKILL" else ""
    return f"was ended by signal {name}{memory}"
