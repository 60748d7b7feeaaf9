"""The plan for smaller masks: what was seen of the scores decides on their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Remasking
from onnxlint_q.proof.mending.plan import Plan
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.mask_values import NAME, MaskValue, apply, fitted


def plan_masks(wanted: Sequence[MaskValue], bench: Workbench) -> Plan:
    """All these masks, of a calibrated network."""
    assert bench.observations is not None
    ranges = {key: (known.low, known.high) for key, known in bench.observations.tensors.items()}
    found = {_change(one): fitted(one, ranges) for one in wanted}
    chosen = {change: one for change, one in found.items() if not isinstance(one, Refusal)}
    return Plan(
        rewrite=NAME,
        what=told(chosen.values()),
        made={change: _change(one) for change, one in chosen.items()},
        refused={change: one.reason for change, one in found.items() if isinstance(one, Refusal)},
        apply=partial(apply, wanted=list(chosen.values())),
        touched=frozenset(tensor for one in chosen.values() for tensor in one.mask.way),
        schemes=bench.measured.calibrated_schemes,
    )


def told(masks: Iterable[MaskValue]) -> str:
    """`the mask at -100`."""
    return f"the mask at {' and '.join(dict.fromkeys(f'{-one.value:.0f}' for one in masks))}"


def _change(mask: MaskValue) -> Remasking:
    return Remasking(mask.tensor, -mask.value)
