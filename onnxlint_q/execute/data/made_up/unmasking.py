"""Which value of each mask lets every position count, found by computing what becomes of the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxlint_q.analysis.inputs.contents import Content, Kind
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.executable import as_stored, up_to
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.graph import Model

# What is far below every score is far enough.
_FAR = 1e4


def unmasked(
    model: Model, contents: Mapping[str, Content], sample: Sample, limits: Limits = DEFAULT_LIMITS
) -> Mapping[str, Content]:
    """The contents with the value of each mask, 1 or 0; 1 where nothing tells.

    Args:
        model: the network.
        contents: what its inputs hold.
        sample: of any values; it tells shapes and types.
        limits: of the runs.
    """
    masks = {name: replace(content, value=1.0) for name, content in contents.items() if content.kind is Kind.MASK}
    ones = {**sample, **{name: np.ones_like(sample[name]) for name in masks}}
    for name, content in masks.items():
        if content.meetings:
            kept = [_kept(model, content, {**ones, name: np.full_like(sample[name], v)}, limits) for v in (1, 0)]
            masks[name] = replace(content, value=float(kept[0] >= kept[1]))
    return {**contents, **masks}


def _kept(model: Model, content: Content, sample: Sample, limits: Limits) -> float:
    """How much of what is masked is left, on no scale."""
    tensors = [met.tensor for met in content.meetings]
    given = [tensor for tensor in tensors if tensor in sample]
    computed = [tensor for tensor in tensors if tensor not in sample]
    values = {tensor: sample[tensor] for tensor in given}
    if computed:
        executable, inputs = up_to(as_stored(model), computed)
        try:
            made = Session(executable, 1, limits).run({name: sample[name] for name in inputs})
        except NotRunnableError:  # without shapes of its own the part may not load
            return 0.0
        values |= dict(zip(computed, made, strict=True))
    means = [met.keeps * np.clip(values[met.tensor].astype(np.float64), -_FAR, _FAR).mean() for met in content.meetings]
    return float(sum(means))
