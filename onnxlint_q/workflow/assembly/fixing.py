"""What `fix` does about each finding: the rewrites that its rule names, where they apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, SCHEMES
from onnxlint_q.finding import Finding, Fixing, Remasking, Rescaling
from onnxlint_q.graph.names import tensor_key
from onnxlint_q.judge.facts import Facts
from onnxlint_q.rewrite import channel_factors, mask_values
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.constants import constant_channels
from onnxlint_q.rewrite.rewriting import Rewrite, Safety
from onnxlint_q.rewrite.table import REWRITES
from onnxlint_q.workflow.record import Record

if TYPE_CHECKING:
    from onnxlint_q.proof.gain import Gain
    from onnxlint_q.proof.mending.transaction import Mended, Step

_BY_NAME = {rewrite.name: rewrite for rewrite in REWRITES}


def with_fixing(record: Record, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings with what `fix` does about them: as it was tried, else as far as the file and the run tell."""
    if not record.facts.is_float:
        return tuple(findings)
    places = _Places(record.facts, record.mended)
    return tuple(_with(finding, places) for finding in findings)


def _with(finding: Finding, places: _Places) -> Finding:
    named = [_BY_NAME[name] for name in finding.rewrites if name in _BY_NAME] if finding.counts else []
    here = [rewrite for rewrite in named if not _failed(finding, rewrite) and places.touched(rewrite, finding)]
    if not here:
        return finding
    sure = [rewrite for rewrite in here if rewrite.likely is None or places.were_tried(rewrite)] or here
    fixing = Fixing(
        tuple(rewrite.name for rewrite in sure),
        found=any(rewrite.likely is None or places.were_tried(rewrite) for rewrite in sure),
        option="--unsafe" if all(rewrite.safety is Safety.UNSAFE for rewrite in sure) else "",
    )
    return replace(finding, fixing=_tried(finding, fixing, sure, places))


def _tried(finding: Finding, fixing: Fixing, rewrites: Sequence[Rewrite], places: _Places) -> Fixing:
    """With the figures of a run: all that `fix` does, else the remedy of the finding or its cure by itself."""
    if any(map(places.were_tried, rewrites)):
        gain = places.gain(finding)
        before, after = gain.decibels if gain is not None else (None, None)
        return replace(fixing, tried=True, before_db=before, after_db=after)
    if finding.tried is not None:
        return replace(fixing, tried=True, before_db=finding.tried.before_db, after_db=finding.tried.after_db)
    cured = finding.metrics.get("cured_sqnr_db")
    if constant_channels.REWRITE in rewrites and "cured_sqnr_db" in finding.metrics:
        after = cured if isinstance(cured, float) else None
        return replace(fixing, tried=True, before_db=finding.measured_db, after_db=after)
    return fixing


def _failed(finding: Finding, rewrite: Rewrite) -> bool:
    """Whether a run has shown that the rewrite does not help here."""
    if rewrite.name in (mask_values.NAME, channel_factors.NAME):
        return finding.tried is not None and finding.change is None
    if rewrite is not constant_channels.REWRITE:
        return False
    from onnxlint_q.proof.rewrites import cure_helps

    return not cure_helps(finding)


@dataclass(eq=False)
class _Places:
    """Where rewrites apply to a network: as `fix` was seen to do it, else where they are found."""

    facts: Facts
    mended: Mended | None
    known: dict[str, frozenset[str]] = field(default_factory=dict)

    def touched(self, rewrite: Rewrite, finding: Finding) -> bool:
        """Whether a rewrite changes what a finding speaks of; one of the whole model is meant wherever it applies."""
        if rewrite.name not in self.known:
            self.known[rewrite.name] = frozenset(self._tensors(rewrite))
        tensors = self.known[rewrite.name]
        return bool(tensors) and (not finding.location.op_type or not tensors.isdisjoint(self._near(finding)))

    def were_tried(self, rewrite: Rewrite) -> bool:
        """Whether it is among what `fix` was seen to do."""
        return self._step(rewrite) is not None

    def gain(self, finding: Finding) -> Gain | None:
        """What `fix` gains, under the scheme that a finding claims something of."""
        from onnxlint_q.proof.gain import Gain

        assert self.mended is not None
        whole = Experiment(SCHEMES[finding.claim.scheme] if finding.claim is not None else DEFAULT_SCHEMES[0])
        return Gain.of(self.mended.given.get(whole), self.mended.errors.get(whole))

    def _step(self, rewrite: Rewrite) -> Step | None:
        steps = self.mended.steps if self.mended is not None else ()
        return next((step for step in steps if step.rewrite is rewrite), None)

    def _tensors(self, rewrite: Rewrite) -> Iterator[str]:
        """Keys of all that it changes."""
        step = self._step(rewrite)
        if step is None and rewrite.likely is not None:
            yield from rewrite.likely(self.facts)
            return
        found = rewrite.find(self.facts, self.facts.observations) if step is None else step.kept
        for one in found:
            yield from one.tensors if isinstance(one, Candidate) else ()

    def _near(self, finding: Finding) -> Iterator[str]:
        """What it names, and what is read to make that."""
        places = (finding.location, *finding.places)
        keys = [tensor_key(place.output, place.graph) for place in places]
        keys += finding.claim.tensors if finding.claim is not None else ()
        if isinstance(finding.change, Remasking):
            keys.append(finding.change.constant)
        if isinstance(finding.change, Rescaling):
            keys += [one.tensor for one in finding.change.divisors]
        for key in keys:
            yield key
            node = self.facts.model.producer(key)
            yield from node.inputs if node is not None else ()
