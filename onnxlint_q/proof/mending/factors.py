"""The plan for outlier channels: all divisors that findings ask for, together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Rescaling, Rewriting
from onnxlint_q.proof.mending.plan import Plan
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.channel_factors import NAME, ChannelFactors, apply, moved_by


def plan_factors(wanted: Sequence[Rescaling], bench: Workbench) -> Plan:
    """All these changes; one of them is refused as a whole where a part of it does not apply."""
    moved: dict[Rescaling, list[ChannelFactors]] = {}
    refused: dict[Rewriting, str] = {}
    for change in wanted:
        parts = [moved_by(bench.measured, one.tensor, one.channels, one.factors) for one in change.divisors]
        chosen = [part for part in parts if not isinstance(part, Refusal)]
        if len(chosen) == len(parts):
            moved[change] = chosen
        else:
            refused[change] = next(part.reason for part in parts if isinstance(part, Refusal))
    chosen = [part for parts in moved.values() for part in parts]
    return Plan(
        rewrite=NAME,
        what="the factors of outlier channels moved",
        made={change: change for change in moved},
        refused=refused,
        apply=partial(apply, wanted=chosen),
        touched=frozenset(tensor for part in chosen for tensor in part.touched),
        schemes=bench.measured.schemes,
    )
