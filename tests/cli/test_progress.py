"""The progress line: what it says of the time, and who sees it."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from onnxlint_q.cli.terminal.progress import Course, progress_line
from onnxlint_q.execute.progress import MODELS, silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def course(*told: tuple[str, int, int, float]) -> Course:
    made = Course(0.0)
    for stage, done, total, now in told:
        made.tell(stage, done, total, now)
    return made


def test_what_is_short_has_no_words_on_time() -> None:
    assert course(("calibrating", 0, 8, 0.0), ("calibrating", 4, 8, 1.9)).time(1.9) == ""


def test_the_time_left_of_a_step_follows_its_pace_and_runs_down() -> None:
    made = course(("calibrating", 0, 10, 1.0), ("calibrating", 2, 10, 5.0))
    assert made.time(5.0) == "about 16 s left of this step"
    assert made.time(11.0) == "about 10 s left of this step"
    assert made.doing == "calibrating 2/10"


def test_the_time_left_of_models_is_that_of_the_run() -> None:
    made = course((MODELS, 0, 12, 0.0), ("reading", 0, 0, 0.5), (MODELS, 2, 12, 60.0), ("calibrating", 1, 4, 61.0))
    assert made.time(61.0) == "about 5 min left"
    assert made.doing == "model 3 of 12, calibrating 1/4"


def test_where_no_end_is_known_the_time_so_far_is_told() -> None:
    assert course(("measuring", 0, 0, 0.0)).time(200.0) == "3 min so far"
    assert course(("measuring", 0, 5, 0.0)).time(20.0) == "20 s so far"


def test_a_stage_without_a_name_is_the_one_before_and_one_that_begins_again_is_new() -> None:
    made = course(("testing claims", 0, 0, 0.0), ("", 1, 4, 2.0), ("", 2, 4, 4.0), ("", 0, 9, 5.0))
    assert made.doing == "testing claims 0/9" and made.time(6.0) == "6 s so far"


def test_steps_of_the_model_before_say_nothing_of_the_next() -> None:
    made = course((MODELS, 0, 2, 0.0), ("calibrating", 1, 2, 1.0), (MODELS, 1, 2, 9.0), ("calibrating", 1, 2, 9.0))
    assert made.time(9.0) == "about 9 s left"


@pytest.mark.parametrize(
    ("stream", "environment", "quiet"),
    [
        (io.StringIO(), {}, False),
        (Terminal(), {"CI": "true"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, True),
    ],
    ids=["file", "CI", "dumb", "quiet"],
)
def test_nobody_is_told_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, environment: dict[str, str], quiet: bool
) -> None:
    for name, value in {"CI": "", "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_line(quiet=quiet) as progress:
        assert progress is silent
    assert stream.getvalue() == ""


def test_a_terminal_shows_the_estimate_and_nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CI": "", "TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    now = [0.0]
    with progress_line(clock=lambda: now[0]) as progress:
        for done in range(4):
            now[0] = 3.0 * done
            progress("calibrating [/b]", done, 10)
    assert "calibrating [/b] 3/10" in stream.getvalue() and "about 21 s left of this step" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")  # the line is taken back


SLEEPS = """
import time
from onnxlint_q.execute.child import run_apart

def sleeps(progress):
    progress("sleeping", 1, 2)
    time.sleep(1.3)

heard = []
run_apart(sleeps, lambda *told: heard.append(told))
print(heard.count(("sleeping", 1, 2)))
"""


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="only a fork can be asked whether it speaks")
def test_while_a_child_works_who_listens_hears_that_time_passes() -> None:
    told = subprocess.run([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, text=True, check=True)
    assert int(told.stdout) >= 2
