"""Which parts of a joined tensor keep few steps of its scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxlint_q import Facts, KnownRanges, QuantizedTensor, Range, Trait, followed_by, grid, joined_branches
from onnxlint_q_rules.qdq.pairs import Pairs


class Parts:
    """Answers for the pairs of one file."""

    def __init__(self, facts: Facts, pairs: Pairs) -> None:
        self._model = facts.model
        held = {pair.codes: grid(facts.model, pair) for pair in pairs.unique()}
        self._held = {codes: found for codes, found in held.items() if found is not None}
        self._known = KnownRanges(facts.model, {codes: (one.low, one.high) for codes, one in self._held.items()})

    def ranges(self, pair: QuantizedTensor) -> Mapping[str, Range]:
        """The parts of which the range is known, those of one value left out; none where nothing is joined.

        What a Softmax reads is left out: there what is wide is a mask, and the coarse step is told with the Softmax.
        """
        held = self._held.get(pair.codes)
        joined = joined_branches(self._model, pair.unrounded or pair.codes) if held is not None else None
        if joined is None or len(joined.branches) < 2 or self._is_scored(pair):
            return {}
        ends = {part: self._known.of(read) for part, read in joined.branches.items()}
        return {part: (low, high) for part, (low, high) in ends.items() if high > low and np.isfinite(high - low)}

    def coarse(self, pair: QuantizedTensor, steps: float) -> Mapping[str, Range]:
        """Those of them that hold fewer steps of the scale."""
        ends = self.ranges(pair)
        return {
            part: (low, high) for part, (low, high) in ends.items() if high - low < steps * self._held[pair.codes].scale
        }

    def _is_scored(self, pair: QuantizedTensor) -> bool:
        through = Trait.QUANTIZES | Trait.MOVES | Trait.COPIES
        return any(followed_by(self._model, pair.codes, Trait.SCORES, through))
