"""Work on a stream of items by several threads, results in the order of the items."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many processors this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


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
    work: Callable[[int, Item], Result], items: Iterable[Item], threads: int, patience: float
) -> Iterator[Result]:
    """`work(number, item)` for each item, at most one more of them in memory than there are threads.

    The threads are daemons: an operator that never returns does not keep the process alive.

    Raises:
        LateError: a result took longer than `patience` seconds after the one before it.
        Exception: what `work` or the items raised.
    """
    queue: SimpleQueue[_Task[Item, Result] | None] = SimpleQueue()
    waiting: deque[_Task[Item, Result]] = deque()

    def serve() -> None:
        while (task := queue.get()) is not None:
            try:
                task.result = work(task.number, task.item)
            except Exception as error:  # handed to the thread that waits, which raises it
                task.error = error
            task.done.set()

    for _ in range(threads):
        threading.Thread(target=serve, daemon=True).start()
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


def _awaited(task: _Task[Item, Result], patience: float) -> Result:
    if not task.done.wait(patience):
        raise LateError
    if task.error is not None:
        raise task.error
    return task.result
