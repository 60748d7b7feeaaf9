"""Samples of a source as long as there is time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.graph import Value


class InTime(Source):
    """The samples of another source, a few in any case and more while an allowance lasts.

    So it may give fewer in one pass than in another.
    """

    def __init__(self, source: Source, allowance: Allowance) -> None:
        """`allowance.fewest` are given whatever the time is."""
        self._source = source
        self._allowance = allowance
        self.name, self.preprocessing, self.synthetic = source.name, source.preprocessing, source.synthetic

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int | None:
        """As many as the other source has."""
        return self._source.available(inputs, enough)

    def shapes(self, inputs: Sequence[Value]) -> Mapping[str, tuple[int, ...]]:
        """Those of the other source."""
        return self._source.shapes(inputs)

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """Its samples, until the time is over."""
        for number, sample in enumerate(self._source.samples(inputs)):
            if number >= self._allowance.fewest and not self._allowance.left:
                return
            yield sample
