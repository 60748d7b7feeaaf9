"""Which samples ranges are taken from, and which others the verdict is measured on.

Ranges fit the samples that they were taken from, so a figure on the same samples is too good. The data is therefore
divided before anything runs: the first samples, at most half of them, for ranges; those that follow for the verdict. A
search that compares many attempts needs samples that are in neither part, if there are any left: on the former attempts
that fit them too well would win, and on the latter the figure of the winner would be too good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.graph import Value


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of a source in two parts.

    Attributes:
        source: where they come from.
        inputs: of the model that they are for.
        calibrating: how many of the first samples ranges are taken from, and claims tested on.
        held_out: how many of those behind them the verdict is measured on; 0 where none is measured, and where there is
            but one sample, which then has to serve both.
        searching: how many of those behind both parts a search compares its attempts on; 0 where too few are left, and
            it has to use those that ranges are taken from.
        fitted: how many of the latter a search fits anything to, and compares its attempts on then; None for all.
    """

    source: Source
    inputs: Sequence[Value]
    calibrating: int
    held_out: int
    searching: int = 0
    fitted: int | None = None

    @property
    def used(self) -> int:
        """How many there are in both parts."""
        return self.calibrating + self.held_out

    def for_ranges(self) -> Iterator[Sample]:
        """A fresh pass over the samples that ranges are taken from."""
        return self.source.take(self.inputs, self.calibrating)

    def for_fitting(self) -> Iterator[Sample]:
        """A fresh pass over the samples that a search fits anything to but ranges."""
        return self.source.take(self.inputs, self.calibrating if self.fitted is None else self.fitted)

    @property
    def searched(self) -> int:
        """How many samples a search compares its attempts on."""
        return self.searching or (self.calibrating if self.fitted is None else self.fitted)

    def for_search(self) -> Iterator[Sample]:
        """A fresh pass over the samples that a search compares its attempts on."""
        if self.searching:
            return self.source.take(self.inputs, self.searching, self.used)
        return self.for_fitting()

    def for_decision(self) -> Iterator[Sample]:
        """A fresh pass over samples that tell whether what was fitted to those for ranges is good for others, too."""
        return self.for_search() if self.searching else self.for_verdict()

    def with_search(self, most: int, fewest: int) -> Split:
        """The same for a search on at most so many samples, on others than those in both parts if there are enough.

        Args:
            most: samples to use.
            fewest: samples that have to be left behind both parts, or as many as are used at most; with fewer, those
                for ranges are used again.
        """
        available = self.source.available(self.inputs, enough=self.used + most)
        left = most if available is None else available - self.used
        searching = min(most, left) if left >= min(fewest, most) else 0
        return replace(self, searching=searching, fitted=min(most, self.calibrating))

    def at_most(self, count: int) -> Split:
        """The same with at most so many samples in either part, those of the verdict again behind those for ranges."""
        return replace(
            self, calibrating=min(self.calibrating, count), held_out=min(self.held_out, count), searching=0, fitted=None
        )

    def for_verdict(self) -> Iterator[Sample]:
        """A fresh pass over the samples that the verdict is measured on."""
        return self.source.take(self.inputs, self.judged, self.first_of_verdict)

    @property
    def judged(self) -> int:
        """How many they are."""
        return self.held_out or self.calibrating

    @property
    def first_of_verdict(self) -> int:
        """The number of the first of them in the source."""
        return self.calibrating if self.held_out else 0


def split(source: Source, inputs: Sequence[Value], count: int, *, judged: bool = True) -> Split:
    """At most `count` samples for ranges and as many others for the verdict; of an odd number ranges get one more.

    Args:
        source: where they come from.
        inputs: of the model.
        count: most for either.
        judged: whether a verdict is measured; without one, nothing is held out.

    Raises:
        DataError: the data does not fit the inputs.
    """
    available = source.available(inputs, enough=2 * count)
    if available is None:
        return Split(source, inputs, count, count if judged else 0)
    calibrating = min(count, available - available // 2 if judged else available)
    return Split(source, inputs, calibrating, min(count, available - calibrating) if judged else 0)
