"""A task in a process of its own: its answer, its errors, its end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from onnxlint_q.errors import DefectError, ModelError, as_one_line
from onnxlint_q.execute import child
from onnxlint_q.execute.child import ChildEndedError, run_apart, run_each_apart
from onnxlint_q.execute.limits import Asked, Budget
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.script import run_lines

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


@pytest.fixture(params=["fork", "fresh"], autouse=True)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_can_fork", lambda: request.param == "fork")


def answers(progress: Progress) -> int:
    progress("counting", 1, 3)
    progress("counting", 2, 3)
    return os.getpid()


def refuses(_: Progress) -> None:
    raise ModelError("m.onnx: is none")


def fails(_: Progress) -> None:
    class HereError(Exception):
        """No other process can make one."""

    raise HereError("by nothing")


def is_killed(progress: Progress) -> None:
    progress("reading", 0, 0)
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(progress: Progress) -> None:
    progress("running", 0, 0)
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(_: Progress) -> None:
    os._exit(7)


def chatters(_: Progress) -> str:
    os.write(1, b"out")
    os.write(2, b"err")
    return "answer"


def writes_its_number_and_sleeps(progress: Progress) -> None:
    progress(str(os.getpid()), 0, 0)
    time.sleep(60)


def test_the_answer_and_what_is_told_on_the_way_come_from_another_process() -> None:
    told: list[tuple[str, int, int]] = []
    assert run_apart(answers, lambda *words: told.append(words)) != os.getpid()
    assert told == [("counting", 1, 3), ("counting", 2, 3)]


def test_an_error_that_is_told_in_one_line_is_the_same_here() -> None:
    with pytest.raises(ModelError, match=r"^m\.onnx: is none$"):
        run_apart(refuses, silent)


def test_a_defect_says_where_it_was() -> None:
    with pytest.raises(DefectError) as caught:
        run_apart(fails, silent)
    told = as_one_line(caught.value, "m.onnx")
    assert told.startswith("m.onnx: an error of onnxlint-q itself, HereError: by nothing (test_child.py:")


def test_how_a_process_ended_and_what_it_was_doing_is_told() -> None:
    for task, told in (
        (is_killed, "was ended by signal SIGKILL (as the system does where memory runs out) while reading"),
        (crashes, "was ended by signal SIGSEGV while running"),
        (leaves, "ended with exit code 7 while starting"),
    ):
        with pytest.raises(ChildEndedError) as caught:
            run_apart(task, silent)
        assert str(caught.value) == told


def test_of_many_tasks_one_that_ends_its_process_costs_itself_only() -> None:
    first, second, third, fourth, fifth = run_each_apart([answers, answers, crashes, refuses, answers], silent)
    assert first == second != fifth, "one process as long as it lasts"
    assert isinstance(third, ChildEndedError) and isinstance(fourth, ModelError)
    assert isinstance(fifth, int)


class WaitsForAThread:
    """As a session of ONNX Runtime does in its destructor; in a copy of the process that thread is not there."""

    def __init__(self) -> None:
        self.itself, self.home = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.home:
            time.sleep(60)


def collects(_: Progress) -> int:
    return gc.collect()


def test_what_was_left_behind_before_is_not_collected_in_another_process() -> None:
    gc.collect()
    gc.disable()
    try:
        WaitsForAThread()
        run_apart(collects, silent, budget=Budget(1 << 40, 20))
        assert gc.get_freeze_count() == 0
    finally:
        gc.enable()


def test_who_is_told_of_an_end_may_fork_at_once() -> None:
    """A thread that still watches the time would forbid it."""
    before = threading.active_count()
    for outcome in run_each_apart([crashes, answers], silent, budgets=[Budget(1 << 40, 60)] * 2):
        assert threading.active_count() == before, outcome


def takes_memory(gigabytes: float, progress: Progress) -> int:
    progress("filling", 0, 0)
    return len(bytearray(int(gigabytes * 2**30)))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count it")
def test_a_task_that_wants_more_memory_than_it_may_have_costs_itself_only() -> None:
    wide, narrow = Budget(2 << 30, 60), Budget(1 << 29, 60)
    tasks: list[Callable[[Progress], object]] = [partial(takes_memory, 1), partial(takes_memory, 1), answers]
    first, second, third = run_each_apart(tasks, silent, budgets=[narrow, wide, narrow])
    assert isinstance(first, ChildEndedError) and first.advice == "--max-memory allows more"
    assert str(first) == "needed more memory than it may have (0.5 GB)"
    assert second == 1 << 30 and isinstance(third, int)


def test_a_task_that_takes_longer_than_it_may_costs_itself_only() -> None:
    start = time.monotonic()
    tasks: list[Callable[[Progress], object]] = [answers, writes_its_number_and_sleeps, answers]
    first, second, third = run_each_apart(tasks, silent, budgets=[Budget(1 << 40, 2)] * 3)
    assert isinstance(first, int) and isinstance(third, int) and time.monotonic() < start + 40
    assert isinstance(second, ChildEndedError) and second.advice == "--timeout allows more"
    assert str(second).startswith("took longer than 2 seconds while ")


def test_what_a_user_asks_for_stands_for_what_is_usual() -> None:
    small, large = Asked().for_models(1 << 20), Asked().for_models(3 << 30)
    assert small.memory == "1.8 GB" and large.memory == "20 GB" and 4 * small.seconds > large.seconds > 3600 - 1
    assert Asked(4, 30).for_models(3 << 30) == Budget(4 << 30, 30)


def test_what_it_writes_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_apart(chatters, silent) == "answer"
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_here_ends_it_there() -> None:
    numbers: list[int] = []

    def interrupt(words: str, *_: int) -> None:
        numbers.append(int(words))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_apart(writes_its_number_and_sleeps, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(numbers[0], 0)


def test_it_leaves_with_the_process_that_started_it() -> None:
    code = """
import sys
from test_child import child, run_apart, writes_its_number_and_sleeps
if __name__ == "__main__":
    run_apart(writes_its_number_and_sleeps, lambda words, *_: print(words, flush=True))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_fresh_one_is_asked_for_and_knows_nothing_of_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_fork", None)
    assert run_apart(program, silent, fresh=True) == "-c"


def program(_: Progress) -> str:
    """What the process was started to run."""
    return sys.argv[0]


@pytest.mark.parametrize(("asked", "taken"), [("", "1"), ("3", "3")])
def test_a_fresh_one_multiplies_in_one_thread_unless_told_otherwise(
    asked: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", asked)
    assert run_apart(threads, silent, fresh=True) == taken


def threads(_: Progress) -> str:
    return os.environ["OPENBLAS_NUM_THREADS"]


def test_what_an_interpreter_prints_when_it_starts_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello'); print('no line', end='')")
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    assert run_apart(program, silent, fresh=True) == "-c"


def test_one_that_cannot_even_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_FRESH", "raise SystemExit(3)")
    with pytest.raises(ChildEndedError, match=r"^ended with exit code 3 while starting$"):
        run_apart(partial(answers_with, bytes(1 << 22)), silent, fresh=True)


def answers_with(much: bytes, _: Progress) -> bytes:
    return much


def test_much_goes_there_and_back() -> None:
    much = os.urandom(1 << 22)
    assert run_apart(partial(answers_with, much), silent) == much


def test_a_process_with_threads_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    alone = child._can_fork()
    monkeypatch.setattr("threading.active_count", lambda: 2)
    assert not child._can_fork()
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert child._can_fork() == alone == (sys.platform == "linux")
    monkeypatch.setitem(sys.modules, "onnxruntime", os)
    assert not child._can_fork()


def writes(begun: Path, progress: Progress) -> None:
    """A temporary file of its own, one of lines that it runs, and then no end."""
    (Path(tempfile.mkdtemp()) / "own").touch()
    progress("writing", 0, 0)
    code = f"import pathlib, tempfile, time; tempfile.mkdtemp(prefix='lines'); pathlib.Path({str(begun)!a}).touch()"
    run_lines(f"{code}; time.sleep(60)", "it", 90)


def test_nothing_is_left_of_a_child_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what it wrote and what its own children did, nor these."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    begun = tmp_path / "begun"

    def interrupted(doing: str, done: int, total: int) -> None:
        while not begun.exists() or not list((tmp_path / "tmp").glob("*/lines*")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_apart(partial(writes, begun), interrupted)
    assert not list((tmp_path / "tmp").iterdir())
    deadline = time.monotonic() + 10
    while running(str(begun)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(str(begun))


def running(word: str) -> bool:
    """Whether a process has this in its command line."""
    return not subprocess.run(["pgrep", "-f", word], capture_output=True, check=False).returncode
