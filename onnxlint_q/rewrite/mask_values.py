"""Masks that stand for minus infinity: a value that an 8-bit scale can hold.

A score `s_j` that is masked by `-v` has, beside the largest score `s_i` of its row that is not, the weight

    exp(s_j - v - s_i) <= exp(R - v),    R = max s - min s

and a row of `n` such scores at most `n exp(R - v)`. That is nothing in float32 once it is under `2^-24`:

    v >= R + 24 ln 2 + ln n = R + 25    for rows of up to 4,096

Where the mask takes the place of scores, the largest score of a row is at least `min s`, so `v >= 25 - min s`. As long
as nothing is known of the scores, 100 is taken: it will do while they lie within 75 of each other, which those of
trained attention do. Where they were seen, `R` and `min s` decide; as long as 100 is enough, they are taken twice, for
scores that were not seen. The smaller the mask, the finer the step.

What changes is a row that is masked as a whole. By float32 arithmetic `s - 3.4e38` is the same number for every score,
and Softmax gives all the same weight; `s - 100` tells them apart. Such rows are padding, and nobody reads them; with
data the rewrite is held against the float outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxlint_q.analysis.causes.extents import constant_at
from onnxlint_q.analysis.causes.masks import LARGE, Entry, Mask
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Model
from onnxlint_q.graph.tensors import Array
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

NAME = "mask-values"
USUAL = 100.0
"""Magnitude of a mask, where nothing is known of the scores."""
# What exp(-x) has to be small beside: 2^-24 of a row of 4,096.
_BESIDE = 25.0
# Scores of other data may spread so much further.
_UNSEEN = 2.0
_ROUND = 10.0
_LARGEST = 1e4

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class MaskValue(Candidate):
    """A mask that may have another value.

    Attributes:
        mask: where it enters and what it reaches.
        value: magnitude of the new one.
    """

    mask: Mask
    value: float = USUAL

    @property
    def change(self) -> str:
        """The old value and the new one."""
        return f"its mask of {self.mask.lowest:.3g} becomes {-self.value:.0f}"


def match(measured: Measured) -> Iterator[MaskValue | Refusal]:
    """Every large mask of a float model, with the usual value; refused where another would change what is computed."""
    for mask in measured.masks:
        if not mask.is_large:
            continue
        if mask.reason:
            yield Refusal(mask.constant, mask.reason)
        else:
            yield MaskValue(mask.constant, mask)


def fitted(wanted: MaskValue, scores: Ranges) -> MaskValue | Refusal:
    """The candidate with the value that scores of these ranges ask for.

    Args:
        wanted: as matched.
        scores: by tensor, smallest and largest value; where those of a mask are missing, the usual value is kept.
    """
    mask = wanted.mask
    known = [
        tuple(end / mask.reach[tensor] for end in scores[key]) for tensor, key in mask.joined.items() if key in scores
    ]
    if not known or len(known) < len(mask.joined):
        return wanted
    span = max(high - low if mask.adds else -low for low, high in known)
    needed = max(span, 0.0) + _BESIDE
    if not needed <= _LARGEST:
        return Refusal(wanted.tensor, f"its scores spread over {span:.3g}, so no smaller mask is far below them")
    value = max(needed, min(max(span, 0.0) * _UNSEEN + _BESIDE, USUAL))
    return replace(wanted, value=_ROUND * math.ceil(value / _ROUND))


def find(measured: Measured, observations: Observations | None) -> Iterator[MaskValue | Refusal]:
    """Every large mask: with the value that the scores ask for where they were seen, else with the usual one."""
    seen = observations.tensors if observations is not None else {}
    ranges = {key: (known.low, known.high) for key, known in seen.items()}
    for one in match(measured):
        yield one if isinstance(one, Refusal) else fitted(one, ranges)


def apply(model: Model, wanted: Iterable[MaskValue]) -> Model:
    """A copy of the model with these masks at their new values, for what reads them as masks and nothing else."""
    edit = Edit(model)
    for candidate in wanted:
        for entry in candidate.mask.entries:
            value = _mended(model, entry, candidate.value)
            if entry.slot < 0:
                node = edit.node(entry.node.output)
                (attribute,) = (attribute for attribute in node.attribute if attribute.name == "value")
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(value))
            else:
                edit.replace_constant(entry.node.output, entry.slot, value, "mask")
    return edit.done()


def _mended(model: Model, entry: Entry, magnitude: float) -> Array:
    """The constant with its masks at the magnitude that they are to have in front of the Softmax."""
    node = model.producer(entry.node.output)
    assert node is not None
    value = constant_at(model, node, entry.slot)
    assert value is not None
    masks = value.astype(np.float64) * entry.gain <= -LARGE
    return np.where(masks, -magnitude / entry.gain, value).astype(value.dtype)


REWRITE = Rewrite(
    name=NAME,
    what="masks of attention made as small as they may be",
    safety=Safety.DATA,
    find=find,
    apply=apply,
)
