"""How far work is, and about how long it still takes: one line on stderr, only where a person sees it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxlint_q.execute.progress import MODELS

if TYPE_CHECKING:
    from onnxlint_q.execute.progress import Progress

QUIET_SECONDS = 2.0
"""What takes no longer gets no words on time."""
_SECONDS_A_FRAME = 0.1


@dataclass(slots=True)
class _Pace:
    """How fast something counts.

    Attributes:
        began, first: when it was first told, and the count then.
        moved, done: when it last went on, and the count since.
        total: 0 where that is not known.
    """

    began: float
    first: int
    moved: float
    done: int
    total: int

    def left(self, now: float) -> float | None:
        """Seconds, at the pace so far; None where nothing is done yet, or no end is known."""
        if self.done <= self.first or not self.total:
            return None
        each = (self.moved - self.began) / (self.done - self.first)
        return max(each * (self.total - self.done) - (now - self.moved), 0.0)


@dataclass(slots=True)
class Course:
    """What was told of a run so far, and what follows for its end.

    Attributes:
        began: when it began, in seconds of any clock.
        stage: what happens now.
    """

    began: float
    stage: str = "starting"
    _paces: dict[str, _Pace] = field(default_factory=dict)

    def tell(self, stage: str, done: int, total: int, now: float) -> None:
        """As of `Progress`."""
        if stage == MODELS:
            for step in set(self._paces) - {MODELS}:  # those of the model before
                del self._paces[step]
        else:
            stage = stage or self.stage
            self.stage = stage
        pace = self._paces.get(stage)
        if pace is None or done < pace.done or total != pace.total:
            self._paces[stage] = _Pace(now, done, now, done, total)
        elif done > pace.done:
            pace.moved, pace.done = now, done

    @property
    def counted(self) -> tuple[int, int]:
        """Steps of the stage that are done, and all; (0, 0) where that is not known."""
        pace = self._paces.get(self.stage)
        return (pace.done, pace.total) if pace is not None and pace.total else (0, 0)

    @property
    def doing(self) -> str:
        """`model 3 of 12, testing claims 4/9`."""
        models, (done, total) = self._paces.get(MODELS), self.counted
        step = f"{self.stage} {done}/{total}" if total else self.stage
        if models is None or not models.total:
            return step
        return f"model {min(models.done + 1, models.total)} of {models.total}, {step}"

    def time(self, now: float) -> str:
        """`about 40 s left` of all models or of this step, else how long it has taken; empty while that is short."""
        if now - self.began < QUIET_SECONDS:
            return ""
        models, step = self._paces.get(MODELS), self._paces.get(self.stage)
        left = models.left(now) if models is not None else None
        if left is not None:
            return f"about {_duration(left)} left"
        left = step.left(now) if step is not None else None
        if left is not None and step is not None and now - step.began >= 1:
            return f"about {_duration(left)} left of this step"
        return f"{_duration(now - self.began)} so far"


def _duration(seconds: float) -> str:
    """`8 s`, `3 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def is_watched() -> bool:
    """Whether a person sees stderr: it is a terminal, and none that a build writes to or that cannot draw."""
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


@contextmanager
def progress_line(*, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """A line with what happens, how far it is and how long it may take; nothing where nobody sees it."""
    from onnxlint_q.execute.progress import silent

    if quiet or not is_watched():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TextColumn("{task.fields[time]}"))
    course = Course(clock())
    # Without a thread of its own: a process that has one cannot be forked.
    with Bars(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bars:
        task = bars.add_task(course.stage, total=None, time="")
        bars.refresh()
        shown = clock()

        def show(stage: str, done: int, total: int) -> None:
            nonlocal shown
            now = clock()
            course.tell(stage, done, total, now)
            if now - shown >= _SECONDS_A_FRAME:
                finished, of = course.counted
                bars.update(task, description=course.doing, completed=finished, total=of or None, time=course.time(now))
                bars.refresh()
                shown = now

        yield show
