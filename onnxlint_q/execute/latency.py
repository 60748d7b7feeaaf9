"""How long one run of a model takes on this machine, beside another that takes turns with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.session import Session

SECONDS = 3.0
"""What the runs take together, give or take one."""
_FEWEST, _MOST, _WARM = 5, 200, 2


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time of single runs, in milliseconds.

    Attributes:
        median_ms: half of the runs took less.
        low_ms, high_ms: a tenth of them took less than the one, a tenth more than the other.
        runs: how many there were.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int


def measure_latency(
    models: Sequence[Executable], sample: Sample, limits: Limits = DEFAULT_LIMITS, seconds: float = SECONDS
) -> tuple[Latency, ...]:
    """Run models in turns on one sample, each as ONNX Runtime runs it by default.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run one of them.
    """
    sessions = [Session(model, limits=limits, deployed=True) for model in models]
    for session in sessions:
        for _ in range(_WARM):
            session.run(sample)
    taken: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + seconds
    for number in range(_MOST):
        if number >= _FEWEST and time.perf_counter() >= end:
            break
        for session, times in zip(sessions, taken, strict=True):
            start = time.perf_counter()
            session.run(sample)
            times.append(1000 * (time.perf_counter() - start))
    return tuple(map(_latency, taken))


def _latency(times: Sequence[float]) -> Latency:
    median, low, high = map(float, np.quantile(times, (0.5, 0.1, 0.9)))
    return Latency(median, low, high, len(times))
