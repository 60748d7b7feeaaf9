"""Work on a stream of items by several threads, results in the order of the items."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# ONNX Runtime stops between two operators; one that is still busy after this is left behind.
SECONDS_TO_STOP = 5.0
# A signal may be delivered to another thread, which does not wake the one that is to act on it.
_SECONDS_A_LOOK = 0.2


class Together:
    """What several threads have begun and one of them ends for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: set[Callable[[], None]] = set()
        self.over = False

    @contextmanager
    def holding(self, end: Callable[[], None]) -> Generator[None, None, None]:
        """Inside, `end` is called once all is over; at once if it is already."""
        with self._lock:
            self._ends.add(end)
            if self.over:
                end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.discard(end)

    def go_on(self) -> None:
        """Called before something begins.

        Raises:
            OverError: all is over.
        """
        if self.over:
            raise OverError

    def end(self) -> None:
        """End what is there, and what begins later."""
        with self._lock:
            self.over = True
            for end in self._ends:
                end()


class OverError(Exception):
    """Another thread has ended all."""


class LateError(Exception):
    """A result did not come in time."""


class _Task(Generic[Item, Result]):
    """One item, and what became of it."""

    def __init__(self, number: int, item: Item) -> None:
        self.number = number
        self.item = item
        self.done = threading.Event()
        self.result: Result
        self.error: Exception | None = None


def in_order(
    work: Callable[[int, Item], Result],
    items: Iterable[Item],
    threads: int,
    patience: float,
    stop: Callable[[], None],
) -> Generator[Result, None, None]:
    """`work(number, item)` for each item, at most one more of them in memory than there are threads.

    However it ends, `stop` is called to let go of what is still in work, and that is waited for, but not long: the
    threads are daemons, so that an operator that never returns does not keep the process alive.

    Raises:
        LateError: a result took longer than `patience` seconds after the one before it.
        Exception: what `work` or the items raised.
    """
    queue: SimpleQueue[_Task[Item, Result] | None] = SimpleQueue()
    waiting: deque[_Task[Item, Result]] = deque()
    # Events and not joins: a join that was interrupted takes the thread for ended.
    ended = [threading.Event() for _ in range(threads)]

    def serve(end: threading.Event) -> None:
        while (task := queue.get()) is not None:
            try:
                task.result = work(task.number, task.item)
            except Exception as error:  # handed to the thread that waits, which raises it
                task.error = error
            task.done.set()
        end.set()

    for end in ended:
        threading.Thread(target=serve, args=(end,), daemon=True).start()
    try:
        for number, item in enumerate(items):
            task: _Task[Item, Result] = _Task(number, item)
            queue.put(task)
            waiting.append(task)
            if len(waiting) > threads:
                yield _awaited(waiting.popleft(), patience)
        while waiting:
            yield _awaited(waiting.popleft(), patience)
    finally:
        for _ in range(threads):
            queue.put(None)
        stop()
        deadline = time.monotonic() + SECONDS_TO_STOP
        for end in ended:
            _wait(end, deadline)


def _awaited(task: _Task[Item, Result], patience: float) -> Result:
    if not _wait(task.done, time.monotonic() + patience):
        raise LateError
    if task.error is not None:
        raise task.error
    return task.result


def _wait(event: threading.Event, deadline: float) -> bool:
    """Whether it came before so much is on the clock; signals are acted on meanwhile."""
    while (left := deadline - time.monotonic()) > 0 and not event.wait(min(left, _SECONDS_A_LOOK)):
        pass
    return event.is_set()
