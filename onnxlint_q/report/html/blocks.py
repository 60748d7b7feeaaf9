"""Findings by rule, each place with its anchor, what stands behind it, and what other rules say of the same damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from onnxlint_q.finding import Finding
from onnxlint_q.report import digest, words
from onnxlint_q.report.html.depth import Flag, Spots
from onnxlint_q.report.html.drawing import Drawn, Plot, drawn, plots
from onnxlint_q.report.layers import of_claim, of_place
from onnxlint_q.workflow.results import ModelResult, Picture

OPEN = 6
"""Places of one rule that are shown before the rest is folded away."""


@dataclass(frozen=True, slots=True)
class Place:
    """One finding with its anchor, and under it what other rules say of the same damage.

    Attributes:
        evidence, claim: what stands behind it, in a few words and as sentences.
        metrics: its figures, but no forecast of what was run.
        columns: of the chart, from 0, with what is there.
        layer: its number in the table; None where it is about none.
        plots, graph: what can be drawn of it.
    """

    finding: Finding
    anchor: str
    evidence: str
    claim: str
    metrics: Mapping[str, object]
    columns: Mapping[int, str] = field(default_factory=dict)
    layer: int | None = None
    plots: tuple[Plot, ...] = ()
    graph: Drawn | None = None
    same: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleBlock:
    """The findings of one rule; message and advice are told once where they are the same everywhere."""

    group: digest.Group
    message: str
    remedy: str
    snippet: str
    first: tuple[Place, ...]
    rest: tuple[Place, ...]


class Anchors:
    """`f-<fingerprint>`, then `f-<fingerprint>-2`: two findings may share a rule and a place."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, finding: Finding) -> str:
        """The anchor of the next finding."""
        self._seen[finding.fingerprint] += 1
        repeat = self._seen[finding.fingerprint]
        return f"f-{finding.fingerprint}" + (f"-{repeat}" if repeat > 1 else "")


def blocks(model: ModelResult, groups: Iterable[digest.Group], anchors: Anchors, spots: Spots) -> tuple[RuleBlock, ...]:
    """A block for each group."""
    return tuple(_block(model, group, anchors, spots) for group in groups)


def _block(model: ModelResult, group: digest.Group, anchors: Anchors, spots: Spots) -> RuleBlock:
    flagged = _flagged(model)

    def shared(text: Callable[[Finding], str]) -> str:
        texts = {text(finding) for finding in group.findings}
        return texts.pop() if len(texts) == 1 else ""

    def place(finding: Finding, others: Iterable[Finding] = ()) -> Place:
        told = of_claim(model, finding)
        anchor, evidence, claim = anchors(finding), words.evidence(finding, told), words.claim(finding, told)
        metrics = words.metrics(finding, told or of_place(model, finding))
        columns, layer = spots.of(finding), spots.layer(finding)
        same = tuple(place(other) for other in others)
        picture = model.pictures.get(finding.fingerprint, Picture())
        graph = drawn(picture.sight, flagged) if picture.sight is not None else None
        return Place(finding, anchor, evidence, claim, metrics, columns, layer, plots(picture), graph, same)

    places = tuple(place(finding, group.same_as(index)) for index, finding in enumerate(group.findings))
    return RuleBlock(
        group=group,
        message=shared(lambda finding: finding.message),
        remedy=shared(lambda finding: finding.advice),
        snippet=shared(lambda finding: finding.snippet),
        first=places[:OPEN],
        rest=places[OPEN:],
    )


def _flagged(model: ModelResult) -> frozenset[str]:
    """Names of the nodes and tensors that findings are about."""
    counted = (finding.location for finding in digest.counted(model.findings))
    return frozenset(name for where in counted for name in (where.node, where.output) if name)


def flags_by_column(told: Iterable[RuleBlock]) -> Mapping[int, tuple[Flag, ...]]:
    """Findings by column of the chart, each damage once."""
    return _flags(told, lambda place: place.columns)


def flags_by_layer(told: Iterable[RuleBlock]) -> Mapping[int, tuple[Flag, ...]]:
    """Findings by number of the layer, each damage once."""
    return _flags(told, lambda place: {} if place.layer is None else {place.layer: place.finding.location.label})


def _flags(told: Iterable[RuleBlock], where: Callable[[Place], Mapping[int, str]]) -> Mapping[int, tuple[Flag, ...]]:
    found: dict[int, tuple[Flag, ...]] = {}
    for block in told:
        for place in (*block.first, *block.rest):
            for key, name in where(place).items():
                flag = Flag(place.finding.code, place.anchor, place.finding.severity, name)
                found[key] = (*found.get(key, ()), flag)
    return found
