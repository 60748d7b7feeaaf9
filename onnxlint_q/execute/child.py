"""A task in a process of its own: a crash of native code costs that task, and the process that asked for it goes on.

The child is a fork where that is safe, so that nothing is imported twice, else a fresh interpreter. That one imports
what the task needs, and never the program that asked, which may be a script without a `__main__` guard, a notebook or
the worker of a pool. It leaves when the process that started it does, however that ends. What libraries write to its
streams goes nowhere: it is no answer. Temporary files of it and of what it starts lie in a folder that the process that
asked removes: a child that is ended removes nothing.
"""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.spawn import get_executable
from typing import Any, TypeVar

from onnxlint_q.errors import DefectError, OnnxlintError, with_place
from onnxlint_q.execute.limits import ONE_THREAD, Budget
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.workers import Together

if sys.platform != "win32":
    import resource

Result = TypeVar("Result")
Tasks = Sequence[tuple[Callable[[Progress], object], Budget | None]]
MORE_MEMORY, MORE_TIME = "--max-memory allows more", "--timeout allows more"
SHOWN = "a library or the system ended it, and --debug shows where"
_SECONDS_A_BEAT = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Before it, whatever the interpreter of this environment prints when it starts.
_READY = b"onnxlint-q: ready\n"
_FRESH = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    f"from {__name__} import serve_stream; serve_stream()"
)


class ChildEndedError(Exception):
    """The process of a task ended before the task did; the text says how and what it was doing.

    Attributes:
        advice: what to do about it, in words.
    """

    def __init__(self, what: str, advice: str) -> None:
        """Both are kept where it goes from one process to another."""
        super().__init__(what, advice)
        self.advice = advice

    def __str__(self) -> str:
        """How it ended."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that serves tasks.

    Attributes:
        told: waits for the next thing that it says.
        speaks: whether it says something within so many seconds, as far as that can be known without reading it.
        ended: waits for its end, and gives the exit code.
        kill: ends it.
    """

    told: Callable[[], Any]
    speaks: Callable[[float], bool]
    ended: Callable[[], int | None]
    kill: Callable[[], None]


def run_apart(
    task: Callable[[Progress], Result], progress: Progress, *, fresh: bool = False, budget: Budget | None = None
) -> Result:
    """`task(progress)`, computed in a child process.

    Args:
        task: as each of `run_each_apart`.
        progress: told what the child tells.
        fresh: as of `run_each_apart`.
        budget: what it may take; None for no limit.

    Raises:
        ChildEndedError: the child was ended by a signal, took more than it may, or left without an answer.
        OnnxlintError, OSError: the task raised it.
        DefectError: the task raised anything else.
    """
    (outcome,) = run_each_apart([task], progress, fresh=fresh, budgets=[budget])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_each_apart(
    tasks: Sequence[Callable[[Progress], Result]],
    progress: Progress,
    *,
    fresh: bool = False,
    budgets: Sequence[Budget | None] = (),
    together: Together | None = None,
) -> Generator[Result | Exception, None, None]:
    """The outcome of each task in turn: its result, or the exception that `run_apart` would raise.

    One child does them one after another; where one ends it, another child goes on with the next.

    Args:
        tasks: each takes a listener; they and their results have to be picklable.
        progress: told what the child tells.
        fresh: never fork, however quiet this process looks: libraries of the program that it belongs to may keep
            threads and locks of their own.
        budgets: what each may take; none for no limits.
        together: ends the child where another thread says so.

    Raises:
        OverError: another thread has said so.
    """
    done, bounded = 0, list(zip(tasks, budgets or [None] * len(tasks), strict=True))
    together = together or Together()
    while done < len(tasks):
        together.go_on()
        # Closed here: an interruption that comes while garbage is collected is lost.
        with closing(_in_one_child(bounded[done:], progress, fresh, together)) as outcomes:
            for outcome in outcomes:
                done += 1
                yield outcome


def _in_one_child(
    tasks: Sequence[tuple[Callable[[Progress], Result], Budget | None]],
    progress: Progress,
    fresh: bool,
    together: Together,
) -> Generator[Result | Exception, None, None]:
    """Outcomes of tasks until all are done, or the child has ended, which is the last of them."""
    begin = _fork if not fresh and _can_fork() else _fresh
    with (
        _scratch() as scratch,
        begin(tasks, scratch) as child,
        together.holding(child.kill),
    ):
        for _, budget in tasks:
            doing, done, total, ended = "starting", 0, 0, None
            with _ended_after(budget, child) as late:
                try:
                    while True:
                        while not child.speaks(_SECONDS_A_BEAT):
                            progress(doing, done, total)  # who shows it may show that time passes
                        if (told := child.told())[0] != "doing":
                            break
                        doing, done, total = told[1] or doing, told[2], told[3]
                        progress(doing, done, total)
                except (EOFError, ConnectionError, pickle.UnpicklingError):
                    how, advice = _ending(child.ended(), budget if late.is_set() else None)
                    ended = ChildEndedError(f"{how} while {doing}", advice)
            # Not inside: who asked may start another child meanwhile, and a process with a thread is not forked.
            if ended is not None:
                yield ended
                return
            yield told[1]


@contextmanager
def _ended_after(budget: Budget | None, child: _Child) -> Iterator[threading.Event]:
    """Inside, a child that takes longer than it may is ended; the event tells that it was."""
    late = threading.Event()
    if budget is None:
        yield late
        return

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(min(budget.seconds, threading.TIMEOUT_MAX), end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()  # a process with threads is not forked


def _can_fork() -> bool:
    """Fork only a process that no other thread runs in, and none that ONNX Runtime keeps state of its own in."""
    quiet = threading.active_count() == 1 and "onnxruntime" not in sys.modules
    return quiet and "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


@contextmanager
def _fork(tasks: Tasks, scratch: str) -> Iterator[_Child]:
    """A copy of this process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_copy, args=(tasks, scratch, theirs, ours), daemon=True)

    def ended() -> int | None:
        process.join()
        return process.exitcode

    try:
        # From Python 3.12 on a fork warns of any thread; those of the BLAS end before it and start again after it.
        with _signals_held(), _kept(), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            process.start()
        theirs.close()
        yield _Child(ours.recv, ours.poll, ended, process.kill)
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        ours.close()


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for temporary files; nothing interrupts its removal."""
    with _signals_held():
        made = tempfile.TemporaryDirectory(prefix="onnxlint-q-", ignore_cleanup_errors=True)
    try:
        yield made.name
    finally:
        with _signals_held():
            made.cleanup()


@contextmanager
def _kept() -> Iterator[None]:
    """A copy that begins inside collects nothing from before: destructors may wait for threads that it has not got."""
    frozen_already = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not frozen_already:
            gc.unfreeze()


@contextmanager
def _fresh(tasks: Tasks, scratch: str) -> Iterator[_Child]:
    """An interpreter that finds modules where this one does; it is told on one stream, and answers on the other."""
    with _signals_held():
        process = subprocess.Popen(
            # -P: what lies in the working directory is not imported.
            [os.fsdecode(get_executable()), "-P", "-c", _FRESH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**ONE_THREAD, **os.environ},
        )
    asked, answers = process.stdin, process.stdout
    assert asked is not None and answers is not None
    try:
        with suppress(OSError):  # one that has ended already is found out when it is to answer
            pickle.dump([entry for entry in sys.path if isinstance(entry, str)], asked)
            pickle.dump((tasks, scratch), asked)
            asked.flush()
        while (line := answers.readline()) and not line.endswith(_READY):
            pass
        yield _Child(lambda: pickle.load(answers), lambda _: True, process.wait, process.kill)
    finally:
        process.kill()
        process.wait()
        for stream in (asked, answers):
            with suppress(OSError):
                stream.close()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come inside wait: a child that is half there would answer them too, a folder be half removed."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve_stream() -> None:
    """The fresh interpreter: tasks come on standard input, answers go where standard output went."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    _quieten()
    answers.write(_READY)
    answers.flush()
    tasks, scratch = pickle.load(sys.stdin.buffer)

    def say(told: object) -> None:
        answers.write(pickle.dumps(told))
        answers.flush()

    # Nothing more comes on that stream but its end.
    _serve(tasks, scratch, say, lambda: os.read(sys.stdin.fileno(), 1))


def _serve_copy(tasks: Tasks, scratch: str, connection: Connection, other_end: Connection) -> None:
    """The fork."""
    other_end.close()
    _quieten()
    _serve(tasks, scratch, connection.send, connection.recv)


def _quieten() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _serve(tasks: Tasks, scratch: str, say: Callable[[object], None], wait: Callable[[], object]) -> None:
    """The child: compute, answer, and so on. Ctrl-C reaches it too, and is left to the process that started it.

    Args:
        tasks: one after another.
        scratch: the folder for temporary files.
        say: to that process.
        wait: until that process has ended; it says nothing meanwhile.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    faulthandler.disable()
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    threading.Thread(target=_leave_after, args=(wait,), daemon=True).start()
    for task, budget in tasks:
        outcome: object
        _bound_memory(budget)
        try:
            outcome = task(lambda *told: say(("doing", *told)))
        except (OnnxlintError, OSError) as error:
            outcome = error
        except MemoryError:
            most = f" ({budget.memory})" if budget is not None else ""
            outcome = ChildEndedError(f"needed more memory than it may have{most}", MORE_MEMORY)
        except Exception as error:  # of whatever kind, picklable or not: its text is what is told
            outcome = DefectError(with_place(error))
        say(("outcome", outcome))


def _bound_memory(budget: Budget | None) -> None:
    """Let what asks for more fail, in native code too, where the system can: Linux counts all private memory."""
    if budget is not None and sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = budget.memory_bytes if most == resource.RLIM_INFINITY else min(budget.memory_bytes, most)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))


def _leave_after(wait: Callable[[], object]) -> None:
    with suppress(EOFError, OSError):
        wait()
    os._exit(1)


def _ending(code: int | None, late: Budget | None) -> tuple[str, str]:
    """How a process ended, in words, and what to do: negative codes are signals."""
    if late is not None:
        return f"took longer than {late.seconds:g} seconds", MORE_TIME
    if code is None or code >= 0:
        return f"ended with exit code {code}", SHOWN
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    memory = " (as the system does where memory runs out)" if name == "SIGKILL" else ""
    return f"was ended by signal {name}{memory}", SHOWN
