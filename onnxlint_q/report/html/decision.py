"""The decision on each scheme as a card of the page: with the figure on its scale, and what else is to be known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from markupsafe import Markup

from onnxlint_q.report import tensors, words
from onnxlint_q.report.front import Decision, decisions
from onnxlint_q.report.html import charts
from onnxlint_q.report.layers import worst_layers
from onnxlint_q.workflow.results import ModelResult, SchemeResult, VerdictLevels


@dataclass(frozen=True, slots=True)
class Card:
    """A decision with all that a page tells of it.

    Attributes:
        gauge: the figure that decides; None where it is not drawn.
        note: what makes the verdict less sure.
        mended: what becomes of it once it is mended.
        details: what else is to be known, a sentence each.
    """

    decision: Decision
    gauge: Markup | None = None
    note: str = ""
    mended: str = ""
    details: tuple[str, ...] = ()

    @property
    def style(self) -> str:
        """CSS class: a verdict, or `unsure`."""
        return self.decision.held.value if self.decision.held is not None else "unsure"

    def titled(self, title: str) -> Card:
        """The same under another title."""
        return replace(self, decision=replace(self.decision, title=title))


def cards(model: ModelResult) -> tuple[Card, ...]:
    """One a decision on the model."""
    decided = decisions(model)
    if not model.schemes:
        return tuple(map(Card, decided))
    return tuple(
        card(one, result, model.levels, _costs(model, result))
        for one, result in zip(decided, model.schemes, strict=True)
    )


def card(decision: Decision, result: SchemeResult, levels: VerdictLevels | None = None, costs: str = "") -> Card:
    """The card of one scheme.

    Args:
        decision: on it.
        result: the verdict.
        levels: where verdicts change; without them the figure is not drawn.
        costs: the tensor or layer that costs most, as a sentence.
    """
    right = words.sentence(words.accuracy(result.top1)) if result.top1 is not None else ""
    details = (right, costs, *words.outputs(result), words.sentence(words.deciding(result)))
    return Card(
        decision,
        gauge=gauge(result, levels) if levels is not None else None,
        note=words.sentence(words.note(result)),
        mended=words.sentence(words.mended(result)),
        details=tuple(filter(None, details)),
    )


def gauge(result: SchemeResult, levels: VerdictLevels) -> Markup | None:
    """The figure that decides the verdict on its scale; None where there is none."""
    end = result.worst
    agreement = result.agreement if end is None else end.agreement
    value = result.output_sqnr_db if end is None else end.sqnr_db
    if agreement is not None:
        known = result.interval if end is None else end.interval
        band = None if known is None else (100 * known[0], 100 * known[1])
        return charts.gauge(100 * agreement, charts.agreement_scale(levels), band)
    if value is None or not math.isfinite(value):
        return None
    return charts.gauge(value, charts.decibel_scale(levels), result.interval_db if end is None else end.interval_db)


def _costs(model: ModelResult, result: SchemeResult) -> str:
    return tensors.most_costly(result) if tensors.explains(result) else _weakest(model, result.scheme)


def _weakest(model: ModelResult, scheme: str) -> str:
    found = worst_layers(model, scheme, 1)
    if not found:
        return ""
    row, told = found[0]
    label = words.name(words.layer_label(row), 70)
    if told.weight_db is None:
        return f"Weakest layer: perhaps {label}, not measured. {words.CONTRADICTED.capitalize()}."
    alone = words.decibel(told.weight_db)
    how = ", ".join(filter(None, (told.basis.value, words.give_or_take([told]))))
    return f"Weakest layer: {label}, {alone} if its weight alone is quantised ({how})."
