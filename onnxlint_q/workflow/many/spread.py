"""Work on a list of models in several processes, here or on other machines; results come in the order of the list.

The list is dealt out in shares of about the same weight. To start a process takes as long as many small models, so
there is one share a process, and several only of a long list, where they make up for weights that mislead. Here each
share is a process of its own. Elsewhere the workers that a backend of joblib knows take the shares; each needs this
package, and the files at the same paths.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from onnxlint_q.cores import cores
from onnxlint_q.errors import ModelError, UsageError, as_one_line
from onnxlint_q.execute.progress import MODELS, Progress
from onnxlint_q.execute.workers import Together, in_order

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
AUTO, DASK = "auto", "dask"
INSTALL = "pip install 'onnxlint-q[dask]'"
MOST_JOBS = 256
# A process takes more than half a second to start, and 100 MB or more.
_SECONDS_EACH, _MOST_UNASKED = 1.0, 8
# So many jobs a process are a long list, and so many shares are made of it.
_LONG, _SHARES_OF_LONG = 64, 4
_SECONDS_TO_ANSWER = 10


Work = Callable[[Sequence[Job], Together], Sequence[Outcome]]
"""What is done with a share, an outcome for each; can be pickled. What was begun is ended by the other argument."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where models are worked on.

    Attributes:
        processes: at once, on this machine.
        dask: address of a scheduler whose workers are used instead; empty for none.
    """

    processes: int = 1
    dask: str = ""

    @property
    def several(self) -> bool:
        """Whether there is anything to spread."""
        return self.processes > 1 or bool(self.dask)

    @classmethod
    def named(cls, word: str, seconds: float, *, running: bool) -> Places:
        """From `auto`, `4`, or `dask:tcp://10.0.0.1:8786`.

        Args:
            word: that. `auto` is as many processes as pay for their start; a run uses all processors as it is.
            seconds: that all models take in one process, as foreseen.
            running: whether any of them is run.

        Raises:
            UsageError: it is neither.
        """
        if word == AUTO:
            return cls(1 if running else max(min(cores(), int(seconds / _SECONDS_EACH), _MOST_UNASKED), 1))
        kind, colon, address = word.partition(":")
        if kind == DASK and colon and address:
            return cls(dask=address)
        if word.isdecimal() and len(word) < 5 and 0 < int(word) <= MOST_JOBS:
            return cls(int(word))
        raise UsageError(
            f"--jobs {word!r}: give {AUTO}, a number from 1 to {MOST_JOBS}, or {DASK}:ADDRESS of a scheduler"
        )


HERE = Places()


def spread(
    jobs: Sequence[Job], work: Work[Job, Outcome], weigh: Callable[[Job], float], places: Places, progress: Progress
) -> list[Outcome | Exception]:
    """The outcome of each job, or what kept a worker from giving any.

    Raises:
        UsageError: the scheduler does not answer, or what speaks to it is not installed.
    """
    weights = list(map(weigh, jobs))

    def shares(processes: int) -> list[list[int]]:
        return _shares(weights, processes)

    run = _elsewhere(jobs, work, shares, places.dask) if places.dask else _here(jobs, work, shares, places.processes)
    found: dict[int, Outcome | Exception] = {}
    with closing(run) as done:
        for share, outcomes in done:
            found.update(zip(share, outcomes, strict=True))
            progress(MODELS, len(found), len(jobs))
    return [found[number] for number in range(len(jobs))]


def _shares(weights: Sequence[float], processes: int) -> list[list[int]]:
    """Numbers of jobs: the heaviest first, each to the share that is lightest so far; in their order within a share.

    No share weighs more than a third above what is possible (Graham, Bounds on multiprocessing timing anomalies, SIAM
    Journal on Applied Mathematics 17, 1969).
    """
    count = min(processes * (_SHARES_OF_LONG if len(weights) >= processes * _LONG else 1), len(weights))
    lightest = [(0.0, number) for number in range(count)]
    shares: list[list[int]] = [[] for _ in range(count)]
    for job in sorted(range(len(weights)), key=lambda job: -weights[job]):
        weight, share = heapq.heappop(lightest)
        shares[share].append(job)
        heapq.heappush(lightest, (weight + weights[job], share))
    return [sorted(share) for share in shares]


def _here(
    jobs: Sequence[Job], work: Work[Job, Outcome], shares: Callable[[int], list[list[int]]], processes: int
) -> Generator[tuple[Sequence[int], Sequence[Outcome | Exception]], None, None]:
    together = Together()

    def one(_number: int, share: Sequence[int]) -> tuple[Sequence[int], Sequence[Outcome]]:
        return share, work([jobs[number] for number in share], together)

    return in_order(one, shares(processes), processes, threading.TIMEOUT_MAX, together.end)


def _elsewhere(
    jobs: Sequence[Job], work: Work[Job, Outcome], shares: Callable[[int], list[list[int]]], address: str
) -> Generator[tuple[Sequence[int], Sequence[Outcome | Exception]], None, None]:
    try:
        import distributed
        import joblib
    except ImportError as error:
        raise UsageError(f"--jobs {DASK}:{address}: needs joblib and dask.distributed; {INSTALL}") from error
    try:
        client = distributed.Client(address, timeout=_SECONDS_TO_ANSWER, set_as_default=True)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(f"--jobs {DASK}:{address}: {as_one_line(error)}; is the scheduler running?") from error
    with client, joblib.parallel_config(backend=DASK):
        listed = shares(max(len(client.scheduler_info()["workers"]), 1))
        tasks = (joblib.delayed(_guarded)(work, [jobs[number] for number in share]) for share in listed)
        yield from zip(listed, joblib.Parallel(return_as="generator")(tasks), strict=True)


def _guarded(work: Work[Job, Outcome], share: Sequence[Job]) -> Sequence[Outcome | Exception]:
    """On a worker: what fails there costs its share, and not what others do."""
    try:
        return work(share, Together())
    except Exception as error:  # of whatever kind: it may not even be known where the answer goes
        return [ModelError(f"a worker could not lint it: {as_one_line(error)}") for _ in share]
