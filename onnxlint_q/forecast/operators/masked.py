"""Which samples are no scores but what a mask of the file puts in their place, as a causal mask does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.causes.masks import Mask, floors
from onnxlint_q.forecast.population import HUGE, Samples

Which = npt.NDArray[np.bool_]


def ruled_out(masks: Sequence[Mask], samples: Mapping[str, Samples]) -> dict[str, Which]:
    """By tensor in which there are any, what lies halfway down to the mask or below."""
    found: dict[str, Which] = {}
    for key, floor in floors(masks).items():
        if key in samples:
            below = samples[key] < max(floor, -float(HUGE)) / 2
            if below.any():
                found[key] = below
    return found
