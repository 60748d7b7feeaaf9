"""Many models at once: the same results in the same order, in processes here and on the workers of a scheduler."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from onnxlint_q.cores import cores
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.child import run_each_apart
from onnxlint_q.execute.data.sources import RandomSource
from onnxlint_q.execute.progress import silent
from onnxlint_q.execute.workers import OverError, Together
from onnxlint_q.judge.config import Overrides
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.workflow.check import check, foreseen_seconds, plan
from onnxlint_q.workflow.many.spread import HERE, MOST_JOBS, Places, spread
from onnxlint_q.workflow.record import CheckRequest, DataRequest

NAMES = "healthy_resnet depthwise_spread qdq_good outlier_gamma silu_gate".split()
TWO = Places(2)


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """Good models, and one in their midst that cannot be read."""
    for name in NAMES:
        shutil.copy(models / f"{name}.onnx", tmp_path)
    (tmp_path / "more.onnx").write_bytes(b"\x08not a model")
    return tmp_path


def told(folder: Path, places: Places, request: CheckRequest | None = None) -> tuple[str, list[str]]:
    """The JSON report without what hangs on the clock, and the failures."""
    run = check(plan(sorted(folder.glob("*.onnx")), Overrides(search=False)), request or CheckRequest(), silent, places)
    return render(run, ReportFormat.JSON), [failure.message for failure in run.failures]


def test_results_are_the_same_and_in_order(folder: Path) -> None:
    alone, failed = told(folder, HERE)
    assert told(folder, TWO) == (alone, failed) and len(failed) == 1 and "more.onnx" in failed[0]


def test_runs_on_data_are_the_same(folder: Path) -> None:
    request = CheckRequest(DataRequest(RandomSource(), 2))
    for path in folder.glob("[!h]*.onnx"):
        path.unlink()
    shutil.copy(folder / "healthy_resnet.onnx", folder / "other.onnx")
    alone, _ = told(folder, HERE, request)
    assert told(folder, TWO, request)[0] == alone


@pytest.mark.parametrize(
    ("word", "places"), [("1", HERE), ("7", Places(7)), ("dask:tcp://a:8786", Places(dask="tcp://a:8786"))]
)
def test_words_name_places(word: str, places: Places) -> None:
    assert Places.named(word, 40.0, running=True) == places and places.several == (word != "1")


def test_by_default_there_are_as_many_processes_as_pay() -> None:
    found = {seconds: Places.named("auto", seconds, running=False).processes for seconds in (0, 0.9, 1.9, 2.1, 1000)}
    most = min(cores(), 8)
    assert found == {0: 1, 0.9: 1, 1.9: 1, 2.1: min(2, most), 1000: most}
    assert Places.named("auto", 1000, running=True) == HERE


def test_what_a_check_takes_is_foreseen_by_the_size_of_the_files(models: Path, tmp_path: Path) -> None:
    (tmp_path / "large.onnx").write_bytes(bytes(28_000_000))
    small, large = (
        plan([path], Overrides(search=False)) for path in (models / "qdq_good.onnx", tmp_path / "large.onnx")
    )
    assert foreseen_seconds(()) == 0
    assert 0.05 < foreseen_seconds(small) < 0.2 and foreseen_seconds(large) > 2
    assert foreseen_seconds(20 * small) == pytest.approx(20 * foreseen_seconds(small))


@pytest.mark.parametrize("word", ["0", "-1", "two", "", "dask:", "ray:1", str(MOST_JOBS + 1), "1.5"])
def test_other_words_are_told_what_to_give(word: str) -> None:
    with pytest.raises(UsageError, match="give auto, a number from 1 to"):
        Places.named(word, 4.0, running=False)


def test_an_error_in_one_share_ends_the_others() -> None:
    """One share fails: every other that is on its way is told to end."""
    ended = threading.Event()
    begun = threading.Event()

    def work(share: Sequence[int], together: Together) -> Sequence[int]:
        if 0 in share:
            assert begun.wait(10)
            raise ValueError("lost")
        with together.holding(ended.set):
            begun.set()
            assert ended.wait(10)
        return share

    with pytest.raises(ValueError, match="lost"):
        spread(range(8), work, float, TWO, silent)
    assert ended.is_set()


@pytest.mark.parametrize(("count", "shares"), [(1, 1), (5, 2), (200, 8)])
def test_shares_weigh_about_the_same_and_hold_every_job_once(count: int, shares: int) -> None:
    taken: list[Sequence[int]] = []
    threads: set[int] = set()

    def work(share: Sequence[int], _: Together) -> Sequence[int]:
        taken.append(share)
        threads.add(threading.get_ident())
        return [-one for one in share]

    assert spread(range(count), work, float, TWO, silent) == [-one for one in range(count)]
    assert len(taken) == shares and len(threads) <= 2 and all(list(share) == sorted(share) for share in taken)
    weights = list(map(sum, taken))
    assert max(weights) - min(weights) <= count


def test_what_begins_after_the_end_is_ended_at_once() -> None:
    together, ended = Together(), threading.Event()
    together.end()
    with together.holding(ended.set):
        assert ended.is_set()


def test_nothing_begins_after_the_end() -> None:
    together = Together()
    together.end()
    with pytest.raises(OverError):
        next(run_each_apart([partial(pytest.fail, "it began")], silent, together=together))


@pytest.mark.skipif(os.name != "posix", reason="signals are told otherwise there")
def test_an_interruption_is_one_line_and_leaves_no_process(folder: Path) -> None:
    for number in range(40):
        shutil.copy(folder / "healthy_resnet.onnx", folder / f"copy{number}.onnx")
    command = [sys.executable, "-m", "onnxlint_q", str(folder), "--jobs", "2", "--calibrate", "random"]
    # A shell that runs the tests in its background has it ignored, and so would the command.
    heeding = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "onnxlint-q: interrupted\n")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _group_lives(process.pid):
        time.sleep(0.1)
    assert not _group_lives(process.pid)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def scheduler() -> Iterator[str]:
    """A scheduler with two workers on this machine, in processes of their own."""
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    pytest.importorskip("joblib", reason="the extra `dask` is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


def test_workers_of_a_scheduler_give_the_same(folder: Path, scheduler: str) -> None:
    assert told(folder, Places(dask=scheduler)) == told(folder, HERE)


def test_a_scheduler_that_does_not_answer_is_told() -> None:
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with pytest.raises(UsageError, match="is the scheduler running"):
        spread([1], lambda share, _: share, float, Places(dask="tcp://127.0.0.1:9"), silent)
