"""What the two rules about measured costs share: their options, which tensors they report, and what they say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    CONFIRM_BELOW_DB,
    MOST,
    OVERFLOWN_DB,
    SCHEMES,
    Claim,
    Confidence,
    Facts,
    Finding,
    Location,
    Rule,
    Scheme,
    SchemeCosts,
    Severity,
    Silence,
    Subject,
    TensorCost,
    option,
    whole_model,
)


@dataclass(frozen=True)
class Costly(Rule):
    """A kind of tensor, reported where it makes much of the noise of a scheme that the model does not survive."""

    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True
    kind: ClassVar[Subject]
    advice: ClassVar[str]

    share: float = option(
        MOST, doc="fraction of the noise that the reported tensors make together", source="the rest is 10 dB lower"
    )
    below_db: float = option(
        CONFIRM_BELOW_DB,
        doc="output SQNR (dB), only this tensor quantised, below which a small part of the loss is reported, too",
        source="noise of 10 % of the signal, the level where layers are excluded",
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each scheme that the model does not survive."""
        if not facts.costs:
            yield Silence(whole_model(facts), "no scheme was measured that the model does not survive")
        found: dict[Hashable, tuple[TensorCost, SchemeCosts, tuple[str, ...]]] = {}
        for costs in facts.costs.values():
            most, scheme = costs.most(self.share), SCHEMES[costs.scheme]
            for cost in (cost for cost in costs.tensors if cost.kind is self.kind):
                if reason := self._unmet(cost, costs, most):
                    left = f"alone under {costs.scheme} it leaves {_left(cost)}"
                    yield Silence(_place(facts, cost), f"{left} {reason}")
                    continue
                # What several schemes quantise alike is reported once.
                layer = facts.layer_by_output.get(cost.tensor) if self.kind is Subject.WEIGHT else None
                own = scheme.of_layer(layer.folded.layer) if layer is not None else scheme
                key = (cost.tensor, own.treatment(self.kind))
                first, of, schemes = found.setdefault(key, (cost, costs, ()))
                found[key] = (first, of, (*schemes, costs.scheme))
        for cost, costs, schemes in found.values():
            yield self._report(facts, cost, costs, schemes)

    def _unmet(self, cost: TensorCost, costs: SchemeCosts, most: tuple[TensorCost, ...]) -> str:
        if cost not in most:
            return f"and is not among those that make {self.share:.0%} of the noise"
        harmless = cost.sqnr_db >= max(self.below_db, costs.matters_db)
        return "and makes less than a tenth of the loss" if harmless else ""

    def _report(self, facts: Facts, cost: TensorCost, costs: SchemeCosts, schemes: tuple[str, ...]) -> Finding:
        where, scheme = _place(facts, cost), SCHEMES[cost.scheme]
        named = " and ".join(schemes) if len(schemes) < 3 else f"{schemes[0]} and {len(schemes) - 1} more schemes"
        return self.finding(
            where,
            # Without the figure of this look at some of the samples: the test of the claim has that of more.
            f"Rounding only {self.what(facts, cost, where)} to {self.form(scheme)} spoils the output under {named}.",
            metrics={
                "sqnr_db": cost.sqnr_db,
                "noise_share": costs.share(cost),
                "scheme_sqnr_db": costs.whole_db,
                "samples": cost.samples,
                "samples_given": facts.observations.samples if facts.observations is not None else 0,
                "schemes": ", ".join(schemes),
            },
            remedy=self.advice,
            claim=Claim(cost.kind, cost.tensor, cost.scheme),
        )

    @abstractmethod
    def what(self, facts: Facts, cost: TensorCost, where: Location) -> str:
        """The tensor in words."""

    @abstractmethod
    def form(self, scheme: Scheme) -> str:
        """The number format that the tensor is rounded to."""


def _left(cost: TensorCost) -> str:
    return f"{cost.sqnr_db:.1f} dB" if cost.sqnr_db > OVERFLOWN_DB else "no finite value"


def _place(facts: Facts, cost: TensorCost) -> Location:
    """The operator that has the weight or makes the activation; an input of the model stands for itself."""
    layer = facts.layer_by_output.get(cost.tensor)
    if layer is not None and (cost.kind is Subject.WEIGHT or facts.stored_tensor(layer) == cost.tensor):
        return facts.model.locate(layer.node, cost.tensor)
    producer = facts.model.producer(cost.tensor)
    return facts.model.locate(producer, cost.tensor) if producer is not None else Location(output=cost.tensor)
