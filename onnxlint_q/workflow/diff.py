"""The use case of `diff`: two releases of a model, and what changed between them.

Both are linted alike. Layers and findings of the two are one where their place is the same: by what stands around it
and by its weights, else by name; layers that have neither in common are one where they follow each other alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from onnxlint_q.errors import ModelError
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.finding import Finding
from onnxlint_q.judge.own_findings import UNUSED_SUPPRESSION
from onnxlint_q.judge.suppression import known_model
from onnxlint_q.workflow.check import Job, check
from onnxlint_q.workflow.record import CheckRequest
from onnxlint_q.workflow.results import Basis, LayerRow, LayerSqnr, ModelResult, Port, SchemeResult

_TRUST = (Basis.MEASURED, Basis.PROBE, Basis.FORECAST)
"""What figures rest on, best founded first."""
_MOST_COMPARED = 1_000_000
"""Pairs of layers that are compared to align those that have nothing in common; its time grows with their square."""


@dataclass(frozen=True, slots=True)
class SchemeDiff:
    """One scheme in both releases.

    Attributes:
        scheme: its name.
        old, new: the verdicts; None where one release is not judged for it.
    """

    scheme: str
    old: SchemeResult | None
    new: SchemeResult | None

    @property
    def loss_db(self) -> float | None:
        """How much lower the SQNR of the worst output is (dB), negative for higher; None where it cannot be told."""
        old, new = level_of(self.old), level_of(self.new)
        if old is None or new is None or self.old is None or self.new is None or self.old.basis is not self.new.basis:
            return None
        return _lost(old, new)


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """One layer under one scheme in both releases.

    Attributes:
        old_db, new_db: SQNR at the output (dB) if its weight alone is quantised; infinite where nothing is lost.
        basis: what both rest on.
    """

    scheme: str
    old_db: float
    new_db: float
    basis: Basis

    @property
    def loss_db(self) -> float:
        """How much lower it is."""
        return _lost(self.old_db, self.new_db)


@dataclass(frozen=True, slots=True)
class LayerDiff:
    """One layer in both releases, or in one of them.

    Attributes:
        old, new: its rows; None where it is not there.
        losses: by scheme, where both have a figure that rests on the same.
    """

    old: LayerRow | None
    new: LayerRow | None
    losses: tuple[LayerLoss, ...] = ()

    @property
    def row(self) -> LayerRow:
        """The row of the new release, else of the old one."""
        row = self.new or self.old
        assert row is not None
        return row

    @property
    def worst(self) -> LayerLoss | None:
        """Where it lost most; None where nothing can be told."""
        return max(self.losses, key=lambda loss: loss.loss_db, default=None)


@dataclass(frozen=True, slots=True)
class PortDiff:
    """An input or output that is not what it was.

    Attributes:
        what: `input` or `output`.
        old, new: None where it is not there.
        moved: only its place in the order is another one.
    """

    what: str
    name: str
    old: Port | None
    new: Port | None
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """Two releases of a model.

    Attributes:
        old, new: each as `check` tells it.
        schemes: verdicts side by side.
        layers: pairs in the order of the new release, then those that are gone.
        appeared, gone: findings of one release only; what is suppressed in the other is known there.
        ports: what changed at the interface.
        max_loss_db: loss of a scheme from which on a build fails; None for never.
    """

    old: ModelResult
    new: ModelResult
    schemes: tuple[SchemeDiff, ...]
    layers: tuple[LayerDiff, ...]
    appeared: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    ports: tuple[PortDiff, ...]
    max_loss_db: float | None = None

    @property
    def loss_db(self) -> float | None:
        """The largest loss of a scheme; None where none can be told."""
        return max((one.loss_db for one in self.schemes if one.loss_db is not None), default=None)

    @property
    def fails(self) -> bool:
        """Whether a build should fail."""
        return self.max_loss_db is not None and self.loss_db is not None and self.loss_db > self.max_loss_db

    @property
    def told(self) -> bool:
        """Whether what was asked for can be said: a loss to hold against the limit, and every rule in both releases."""
        crashed = self.old.rule_crashed or self.new.rule_crashed
        return not crashed and (self.max_loss_db is None or self.loss_db is not None)


def diff(
    old: Job, new: Job, request: CheckRequest, max_loss_db: float | None = None, progress: Progress = silent
) -> Diff:
    """Lint both releases and say what changed.

    Raises:
        ModelError: one of them cannot be read or trusted.
        UsageError: the request cannot be used.
    """
    run = check([old, new], request, progress)
    if run.failures:
        raise ModelError("; ".join(failure.message for failure in run.failures))
    before, after = run.models
    return compared(before, after, max_loss_db)


def compared(old: ModelResult, new: ModelResult, max_loss_db: float | None = None) -> Diff:
    """What changed between two results."""
    layers = tuple(_layers(old.layers, new.layers))
    partners = {_label(one.new): _label(one.old) for one in layers if one.old is not None and one.new is not None}
    appeared, gone = _without_pairs(_only_in(new, old), _only_in(old, new), partners)
    return Diff(
        old,
        new,
        schemes=tuple(_schemes(old, new)),
        layers=layers,
        appeared=appeared,
        gone=gone,
        ports=(*_ports("input", old.ports_in, new.ports_in), *_ports("output", old.ports_out, new.ports_out)),
        max_loss_db=max_loss_db,
    )


def level_of(result: SchemeResult | None) -> float | None:
    """The SQNR of the worst output, infinite where it is perfect; None where it is unknown."""
    if result is None or result.verdict is None:
        return None
    worst = result.worst
    level = result.output_sqnr_db if worst is None else worst.sqnr_db
    return math.inf if level is None else level


def _lost(old_db: float, new_db: float) -> float:
    return 0.0 if old_db == new_db else old_db - new_db


def _schemes(old: ModelResult, new: ModelResult) -> Iterator[SchemeDiff]:
    before, after = ({result.scheme: result for result in model.schemes} for model in (old, new))
    for scheme in dict.fromkeys((*after, *before)):
        yield SchemeDiff(scheme, before.get(scheme), after.get(scheme))


def _only_in(model: ModelResult, other: ModelResult) -> tuple[Finding, ...]:
    """The findings of a release that count, without those that the other one has too."""
    own = [one for one in model.findings if one.counts and one.code != UNUSED_SUPPRESSION.code]
    known = known_model((*other.findings, *other.suppressed), {}, calibrated=False)
    lines, _ = known.matched(own)
    return tuple(one for one, line in zip(own, lines, strict=True) if line is None)


def _without_pairs(
    appeared: Sequence[Finding], gone: Sequence[Finding], partners: Mapping[str, str]
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Both without those that one rule says of one layer, which has another name and other weights now."""
    before: dict[tuple[str, str], list[Finding]] = {}
    for finding in gone:
        before.setdefault((finding.code, finding.location.label), []).append(finding)
    left = []
    for finding in appeared:
        same = before.get((finding.code, partners.get(finding.location.label, "")))
        if same:
            same.pop(0)
        else:
            left.append(finding)
    kept = {id(finding) for findings in before.values() for finding in findings}
    return tuple(left), tuple(finding for finding in gone if id(finding) in kept)


def _label(row: LayerRow) -> str:
    return row.node or row.output


def _layers(old: Sequence[LayerRow], new: Sequence[LayerRow]) -> Iterator[LayerDiff]:
    partners = _partners(old, new)
    for index, row in enumerate(new):
        partner = old[partners[index]] if index in partners else None
        yield LayerDiff(partner, row, tuple(_losses(partner, row)) if partner is not None else ())
    paired = set(partners.values())
    yield from (LayerDiff(row, None) for index, row in enumerate(old) if index not in paired)


def _partners(old: Sequence[LayerRow], new: Sequence[LayerRow]) -> dict[int, int]:
    """Index of the old layer by that of the new one."""
    found: dict[int, int] = {}
    keys: tuple[Callable[[LayerRow], Hashable], ...] = (
        lambda row: row.structure,
        lambda row: (row.output, _kind(row)),
        lambda row: (row.node, _kind(row)) if row.node else None,
    )
    for key in keys:
        taken = set(found.values())
        places: dict[Hashable, list[int]] = {}
        for index, row in enumerate(old):
            if index not in taken and key(row):
                places.setdefault(key(row), []).append(index)
        for index, row in enumerate(new):
            same = places.get(key(row), [])
            if index not in found and len(same) == 1:
                found[index] = same.pop()
    taken = set(found.values())
    left_new = [index for index in range(len(new)) if index not in found]
    left_old = [index for index in range(len(old)) if index not in taken]
    if len(left_old) * len(left_new) > _MOST_COMPARED:
        return found
    matcher = SequenceMatcher(
        None, [_kind(old[index]) for index in left_old], [_kind(new[index]) for index in left_new], autojunk=False
    )
    for first, second, size in matcher.get_matching_blocks():
        found.update({left_new[second + step]: left_old[first + step] for step in range(size)})
    return found


def _kind(row: LayerRow) -> tuple[str, int, bool]:
    return row.op_type, row.group, row.depthwise


def _losses(old: LayerRow, new: LayerRow) -> Iterator[LayerLoss]:
    for basis in _TRUST:
        before, after = _stage(old, basis), _stage(new, basis)
        for scheme in after:
            told = before.get(scheme), after[scheme]
            figures = [None if one is None else one.weight_sqnr_db for one in told]
            if figures[0] is not None and figures[1] is not None:
                yield LayerLoss(scheme, figures[0], figures[1], basis)
        if before and after:
            return


def _stage(row: LayerRow, basis: Basis) -> Mapping[str, LayerSqnr]:
    stages = {Basis.FORECAST: row.forecast, Basis.PROBE: row.probe, Basis.MEASURED: row.measured}
    return stages[basis] or {}


def _ports(what: str, old: Sequence[Port], new: Sequence[Port]) -> Iterator[PortDiff]:
    before, after = ({port.name: port for port in ports} for ports in (old, new))
    kept = [[port.name for port in ports if port.name in before and port.name in after] for ports in (old, new)]
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield PortDiff(what, name, before.get(name), after.get(name))
        elif kept[0].index(name) != kept[1].index(name):
            yield PortDiff(what, name, before[name], after[name], moved=True)
