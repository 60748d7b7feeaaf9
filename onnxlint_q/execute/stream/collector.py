"""The statistics of many samples, from those of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain
from operator import add

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.histogram import Codes, Histogram
from onnxlint_q.analysis.observed.moments import Moments
from onnxlint_q.analysis.observed.observations import ChannelObservation, TensorObservation
from onnxlint_q.execute.limits import DEFAULT_LIMITS, StreamLimits
from onnxlint_q.execute.stream.reduction import CODES, Layout, Place, Reduced, Single, Watched

Counts = npt.NDArray[np.int64]


class Collector:
    """The running statistics of some tensors; samples wait until it pays to count their subsets."""

    def __init__(
        self, watched: Sequence[Watched], collectors: int = 1, limits: StreamLimits = DEFAULT_LIMITS.stream
    ) -> None:
        """Nothing seen yet; `collectors` share the room for what waits."""
        self.watched = watched
        self._room = max(limits.least_waiting_bytes, limits.waiting_bytes // collectors)
        self._runs: list[_Run] = []
        self._waiting = 0
        self._sums: dict[str, TensorObservation] = {}
        self._bad: set[str] = set()

    def add(self, sample: Reduced) -> None:
        """One more sample."""
        if not self._runs or self._runs[-1].layout.shapes != sample.layout.shapes:
            self._runs.append(_Run(sample.layout))
            self._waiting += self._runs[-1].bytes
        self._runs[-1].add(sample)
        self._waiting += sample.codes.nbytes
        if self._waiting >= self._room:
            self._settle()

    def result(self) -> tuple[dict[str, TensorObservation], tuple[str, ...]]:
        """Observations by tensor, and the tensors that held NaN or infinity; none of those that held nothing."""
        self._settle()
        found = {w.tensor: self._sums[w.tensor] for w in self.watched if w.tensor in self._sums}
        return found, tuple(w.tensor for w in self.watched if w.tensor in self._bad)

    def _settle(self) -> None:
        for number, watched in enumerate(self.watched):
            runs = [run for run in self._runs if number in run.layout.places]
            if not runs or watched.tensor in self._bad:
                continue
            new = [run.observation(number) for run in runs]
            if all(one.is_finite for one in new):
                histogram = _histogram(runs, number, watched)
                before = [self._sums[watched.tensor]] if watched.tensor in self._sums else []
                self._sums[watched.tensor] = reduce(add, [*before, replace(reduce(add, new), histogram=histogram)])
            else:  # one bad sample marks the tensor for good
                self._sums.pop(watched.tensor, None)
                self._bad.add(watched.tensor)
        self._runs, self._waiting = [], 0


def _histogram(runs: Sequence[_Run], number: int, watched: Watched) -> Histogram:
    """Of all codes of a tensor where they are counted, else of its samples' subsets."""
    if watched.has_few_codes and watched.codes is not None:
        return Histogram.of_counts(watched.codes[0], np.sum([run.code_counts(number) for run in runs], axis=0))
    subsets = chain.from_iterable(run.counted(number) for run in runs)
    return Histogram.of_codes(subsets, watched.codes is not None)


class _Run:
    """Consecutive samples of the same shapes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.low, self.high = np.full(layout.rows, np.inf, np.float32), np.full(layout.rows, -np.inf, np.float32)
        self.ends = np.zeros((len(layout.places), 2), np.int64)
        self.counts = np.zeros((layout.coded, CODES), np.int64)
        self.sums = np.zeros((len(layout.places), 3))
        self.lows: list[Single] = []
        self.highs: list[Single] = []
        self.codes: list[Codes] = []
        self._starts = [place.extremes.start for place in layout.places.values()]

    @property
    def bytes(self) -> int:
        """Room that it takes, its samples' subsets aside."""
        return self.low.nbytes + self.high.nbytes + self.counts.nbytes

    def add(self, sample: Reduced) -> None:
        """One more sample."""
        np.minimum(self.low, sample.low, out=self.low)
        np.maximum(self.high, sample.high, out=self.high)
        self.lows.append(np.minimum.reduceat(sample.low, self._starts) if self._starts else sample.low)
        self.highs.append(np.maximum.reduceat(sample.high, self._starts) if self._starts else sample.high)
        self.ends += sample.ends
        self.counts += sample.counts
        self.sums += sample.sums
        self.codes.append(sample.codes)

    def counted(self, number: int) -> Iterator[Codes]:
        """A tensor's values for the histogram, sample by sample."""
        place = self.layout.places[number]
        return (codes[place.codes] for codes in self.codes)

    def code_counts(self, number: int) -> Counts:
        """How often each code of a tensor occurred."""
        counts: Counts = self.counts[self.layout.places[number].row]
        return counts

    def observation(self, number: int) -> TensorObservation:
        """What was seen of a tensor, its histogram aside."""
        place = self.layout.places[number]
        size = len(self.codes) * place.size
        low, high = self.low[place.extremes], self.high[place.extremes]
        lows, highs = (np.asarray([sample[place.order] for sample in each]) for each in (self.lows, self.highs))
        whole = place.watched.codes is not None
        ends = (self._ends(place) / size).tolist()
        total, squares, zeros = self.sums[place.order].tolist()
        return TensorObservation(
            low=float(lows.min()),
            high=float(highs.max()),
            size=size,
            histogram=Histogram.empty(whole),
            lows=lows,
            highs=highs,
            moments=Moments(size, total, squares, int(zeros)),
            channels=_by_channel(low, high, place.shape[1]) if place.channels else None,
            ends=(ends[0], ends[1]) if place.watched.is_rounded else None,
        )

    def _ends(self, place: Place) -> Counts:
        codes, ends = place.watched.codes, self.ends[place.order]
        if place.row is not None and codes is not None:
            ends = self.counts[place.row, [0, codes[1] - codes[0]]]
        return np.asarray(ends)


def _by_channel(low: Single, high: Single, count: int) -> ChannelObservation:
    """Extremes by channel, from those by lead and channel."""
    return ChannelObservation(
        low.reshape(-1, count).min(axis=0).astype(np.float64), high.reshape(-1, count).max(axis=0).astype(np.float64)
    )
