"""What the two rules about measured costs share: which tensors they tell, and what they say of one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

from onnxlint_q import SCHEMES, Claim, Facts, Location, Metric, SchemeCosts, Silence, Subject, TensorCost, whole_model


@dataclass(frozen=True, slots=True)
class Told:
    """One tensor that a rule tells.

    Attributes:
        cost: what it costs alone.
        costs: what all tensors cost under its scheme.
        samples: how many there are to measure on.
        schemes: names of all schemes that it is told under; an activation is rounded alike where they differ in their
            weights alone, and then is told once.
    """

    cost: TensorCost
    costs: SchemeCosts
    samples: int
    schemes: tuple[str, ...]

    def message(self, what: str, form: str) -> str:
        """What is rounded to which form, and what that leaves."""
        left = f"{self.cost.sqnr_db:.1f} dB at the output"
        if self.cost.samples < self.samples:
            left += f", on the first {self.cost.samples} of {self.samples} samples"
        return f"under {' and '.join(self.schemes)}, rounding {what} to {form} alone leaves {left}"

    @property
    def metrics(self) -> dict[str, Metric]:
        """The numbers behind the message."""
        return {
            "sqnr_db": self.cost.sqnr_db,
            "noise_share": self.costs.share(self.cost),
            "scheme_sqnr_db": self.costs.whole_db,
            "samples": self.cost.samples,
        }

    @property
    def claim(self) -> Claim:
        """What the run has shown already."""
        return Claim(self.cost.kind, self.cost.tensor, self.cost.scheme)


def told(facts: Facts, kind: Subject, share: float, below_db: float) -> Iterator[Told | Silence]:
    """The tensors of one kind among those that make up this share of the noise of a scheme, and matter alone."""
    samples = facts.observations.samples if facts.observations is not None else 0
    if not facts.costs:
        yield Silence(whole_model(facts), "no scheme was measured that the model does not survive")
    found: dict[Hashable, Told] = {}
    for costs in facts.costs.values():
        most = costs.most(share)
        for cost in (cost for cost in costs.tensors if cost.kind is kind):
            alone = f"alone under {costs.scheme} it leaves {cost.sqnr_db:.1f} dB"
            if cost not in most:
                yield Silence(place(facts, cost), f"{alone} and is not among those that make {share:.0%} of the noise")
            elif cost.sqnr_db >= max(below_db, costs.matters_db):
                yield Silence(place(facts, cost), f"{alone}, and makes less than a tenth of the loss")
            else:
                scheme = SCHEMES[costs.scheme]
                key = (cost.tensor, scheme if kind is Subject.WEIGHT else scheme.activations)
                first = found.setdefault(key, Told(cost, costs, samples, ()))
                found[key] = replace(first, schemes=(*first.schemes, costs.scheme))
    yield from found.values()


def place(facts: Facts, cost: TensorCost) -> Location:
    """The operator that has the weight or makes the activation; an input of the model stands for itself."""
    layer = facts.layer_by_output.get(cost.tensor)
    if layer is not None and (cost.kind is Subject.WEIGHT or facts.stored_tensor(layer) == cost.tensor):
        return facts.model.locate(layer.node, cost.tensor)
    producer = facts.model.producer(cost.tensor)
    return facts.model.locate(producer, cost.tensor) if producer is not None else Location(output=cost.tensor)
