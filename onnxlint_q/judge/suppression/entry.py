"""What somebody wrote down to say that findings are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnxlint_q.finding import Finding, Location, Suppression, Suppressor
from onnxlint_q.judge.select import strength
from onnxlint_q.judge.suppression.baseline import KnownModel


@dataclass(frozen=True, slots=True)
class Spot:
    """A node of the model.

    Attributes:
        graph, node, op_type: as of a location.
        outputs: all of them, as their graph calls them.
    """

    graph: str
    node: str
    op_type: str
    outputs: frozenset[str]

    def holds(self, where: Location) -> bool:
        """Whether a finding there is about this node. Names may repeat, so the operator has to be the same, too."""
        named = bool(self.node) and (where.node, where.op_type) == (self.node, self.op_type)
        return where.graph == self.graph and (named or where.output in self.outputs)


@dataclass(frozen=True, slots=True)
class Entry:
    """One suppression, as somebody wrote it.

    Attributes:
        rules: codes, first letters of codes, or names.
        reason: why they do not count.
        by: who wrote it.
        where: what to call the place where it stands.
        node: a glob that the node's name, its output or `graph/label` has to match; empty for any.
        model: a glob that the model's path has to match; empty for any.
        spot: the node that carries it; None for one that is about the whole model.
    """

    rules: tuple[str, ...]
    reason: str
    by: Suppressor
    where: str
    node: str = ""
    model: str = ""
    spot: Spot | None = None

    @property
    def suppression(self) -> Suppression:
        """What a finding that it covers is told."""
        return Suppression(self.by, self.where, self.reason)

    def names(self, code: str, name: str) -> bool:
        """Whether it means the rule with this code and name."""
        return any(strength(word, code, name) >= 0 for word in self.rules)

    def covers(self, finding: Finding) -> bool:
        """Whether it means the rule of a finding, and all of its places."""
        return self.names(finding.code, finding.name) and self._holds(finding)

    def concerns(self, finding: Finding) -> bool:
        """Whether it covers a finding, or one that left its fault to it."""
        return self.covers(finding) or (self._holds(finding) and any(self.names(code, "") for code in finding.also))

    def _holds(self, finding: Finding) -> bool:
        return all(map(self._reaches, (finding.location, *finding.places)))

    def _reaches(self, where: Location) -> bool:
        if self.spot is not None:
            return self.spot.holds(where)
        return not self.node or any(fnmatchcase(name, self.node) for name in _names(where))


@dataclass(frozen=True, slots=True)
class Suppressing:
    """All that is said of a model outside of it.

    Attributes:
        entries: of the configuration.
        heed_model: whether the model's own metadata is listened to.
        known: what a baseline holds of the model; None where none holds anything.
        baseline: what to call that baseline.
    """

    entries: tuple[Entry, ...] = ()
    heed_model: bool = True
    known: KnownModel | None = None
    baseline: str = ""


def _names(where: Location) -> Iterator[str]:
    yield from filter(None, (where.node, where.output))
    yield f"{where.graph}/{where.label}"
