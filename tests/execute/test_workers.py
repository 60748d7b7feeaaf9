"""Threads on a stream: order, errors, lateness, and how much of the stream is in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from onnxlint_q.execute.workers import LateError, in_order


def no_stop() -> None:
    """Nothing to let go of."""


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_few_items_wait(threads: int) -> None:
    made, most = 0, 0

    def items() -> Iterator[int]:
        nonlocal made
        for item in range(40):
            made += 1
            yield item

    def work(number: int, item: int) -> tuple[int, int]:
        time.sleep(0.001 * (item % 3))
        return number, item * item

    got = []
    for result in in_order(work, items(), threads, 5.0, no_stop):
        got.append(result)
        most = max(most, made - len(got))
    assert got == [(number, number**2) for number in range(40)]
    assert most <= threads


def test_an_error_comes_out_where_its_result_would() -> None:
    def work(_number: int, item: int) -> float:
        return 1 / item

    results = in_order(work, [2, 1, 0, 4], 2, 5.0, no_stop)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_is_late_is_stopped_and_waited_for() -> None:
    released = threading.Event()
    results = in_order(lambda _number, _item: released.wait(20), [1, 2, 3], 2, 0.05, released.set)
    start = time.monotonic()
    with pytest.raises(LateError):
        list(results)
    assert released.is_set() and time.monotonic() - start < 5
