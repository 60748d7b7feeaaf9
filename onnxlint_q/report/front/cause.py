"""Why a model fails, in a sentence or two: what the findings say of the tensors that make the noise."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.finding import Evidence, Finding, Severity, Subject
from onnxlint_q.report import digest, words
from onnxlint_q.report.front.noise import Key, Part, few, parts, spread, told
from onnxlint_q.workflow.results import Basis, ModelResult, SchemeResult, Verdict

FAILED = (Verdict.BREAKS, Verdict.DEGRADES, Verdict.UNCERTAIN)
LEAST = 0.1
"""A group of findings that tells of less of the noise explains nothing."""
ENOUGH = 0.75
"""Once so much of the noise is explained, what explains the rest is for the list of findings."""
TOLD = 2
"""Groups that are named."""
FEW = 3
"""Tensors that are named, where so many make more than half of the noise."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why some schemes fail, or what is wrong with a model that no scheme is judged on.

    Attributes:
        schemes: those with the same reasons; empty for the model as it is.
        verdict: on the first of them.
        sentences: at least one.
    """

    schemes: tuple[str, ...]
    verdict: Verdict | None
    sentences: tuple[str, ...]

    @property
    def title(self) -> str:
        """`Why int8-per-tensor breaks`."""
        if not self.schemes:
            return "What is wrong"
        named = " and ".join(words.name(scheme, 40) for scheme in self.schemes)
        if self.verdict is Verdict.UNCERTAIN:
            return f"Why {named} may lose accuracy"
        return f"Why {named} {'lose accuracy' if len(self.schemes) > 1 else words.verdict(self.verdict)}"

    def opening(self, limit: int) -> Why:
        """The same in at most so many sentences."""
        return replace(self, sentences=self.sentences[:limit])


def reasons(model: ModelResult) -> tuple[Why, ...]:
    """One for the model as it is where something undermines all figures, then one for each reason why schemes fail."""
    groups = digest.group_by_damage(digest.counted(model.findings))
    found = []
    if facts := [group for group in groups if any(map(undermines, group.findings))]:
        found.append(Why((), None, tuple(_fact(group) for group in facts[:TOLD])))
    elif not model.schemes and groups and groups[0].severity is not Severity.INFO:
        found.append(Why((), None, (_fact(groups[0]),)))
    alike: dict[tuple[Hashable, ...], Why] = {}
    for result in model.schemes:
        if result.verdict in FAILED:
            said = tuple(_reasons(result, groups))
            key = tuple(reason.key for reason in said)
            first = alike.get(key, Why((), result.verdict, tuple(reason.sentence for reason in said)))
            alike[key] = replace(first, schemes=(*first.schemes, result.scheme))
    return (*found, *alike.values())


@dataclass(frozen=True, slots=True)
class _Reason:
    """A sentence, and what it says but for figures that hardly differ: schemes with the same reasons share them."""

    sentence: str
    key: Hashable


def undermines(finding: Finding) -> bool:
    """Whether it leaves no figure to rely on: an error of the file or the run, or data that was read and is wrong."""
    if finding.claim is not None or finding.explains or finding.severity is Severity.INFO:
        return False
    read = finding.evidence is Evidence.CONFIRMED and finding.measured_db is None
    return finding.severity is Severity.ERROR or read


def _fact(group: digest.Group) -> str:
    return f"{_ended(group.findings[0].message)} ({words.shown(group.code, 20)})"


def _ended(text: str) -> str:
    """A message as a sentence that others follow."""
    shown = words.shown(text)
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a group of findings tells of the noise of a scheme.

    Attributes:
        worst: the finding about the tensor that makes most of it.
        keys: the tensors it speaks of.
        places: how many it names.
        where: the one of the tensor that makes most of it.
    """

    group: digest.Group
    worst: Finding
    share: float
    keys: frozenset[Key]
    places: int
    where: str


def _reasons(result: SchemeResult, groups: Sequence[digest.Group]) -> Iterator[_Reason]:
    made = parts(result)
    lead = "By the forecast, " if result.tensors_basis is Basis.FORECAST else ""
    explained = sorted(_explained(result, groups, made), key=lambda entry: -entry.share)
    said, keys = 0.0, set[Key]()
    for entry in explained[:TOLD]:
        if entry.share < LEAST or said >= ENOUGH:
            break
        yield _Reason(
            _told(entry, "" if said else lead), (entry.group.code, entry.worst.fingerprint, _tenths(entry.share))
        )
        if not said and (effect := _effect(entry.worst)):
            yield _Reason(_ended(effect), None)
        said += entry.share
        keys |= entry.keys
    if said:
        if said < ENOUGH:
            yield _Reason(_rest(1 - said, [part for part in made if part.key not in keys]), _tenths(said))
        return
    named = next((group for group in groups if not made and _accuses(group, result)), None)
    if named is not None:
        yield _Reason(f"{_place(named.findings[0])}{_fact(named)}", named.findings[0].fingerprint)
        return
    yield _Reason("No rule explains it.", None)
    yield from _where(made, lead)


def _effect(finding: Finding) -> str:
    """The last link of the chain of causes, which a cure may follow; empty without a chain."""
    links = finding.causes[:-1] if finding.cure is not None else finding.causes
    return links[-1] if links else ""


def _tenths(share: float) -> int:
    return round(10 * share)


def _accuses(group: digest.Group, result: SchemeResult) -> bool:
    """Whether a group of findings says that tensors cost the scheme something."""
    about = any(result.scheme in finding.explains or _keys(finding, result) for finding in group.findings)
    return group.severity is not Severity.INFO and about


def _keys(finding: Finding, result: SchemeResult) -> tuple[Key, ...]:
    """The tensors that a finding makes a claim about, if it holds for the scheme; activations cost all alike."""
    claim = finding.claim
    if claim is None or (claim.subject is Subject.WEIGHT and claim.scheme != result.scheme):
        return ()
    return tuple((claim.subject, tensor) for tensor in claim.tensors)


def _explained(result: SchemeResult, groups: Sequence[digest.Group], made: Sequence[Part]) -> Iterator[_Explained]:
    known = {part.key: part for part in made}
    for group in groups:
        about = {key: finding for finding in group.findings for key in _keys(finding, result) if key in known}
        if about:
            most = max(about, key=lambda key: known[key].share)
            worst, share = about[most], sum(known[key].share for key in about)
            places = {place for finding in about.values() for place in (finding.location, *finding.places)}
            where = known[most].row.node if worst.places else worst.location.label
            yield _Explained(group, worst, share, frozenset(about), len(places), where or worst.location.label)


def _told(entry: _Explained, lead: str) -> str:
    rule = f"{words.shown(entry.group.code, 20)} {words.shown(entry.group.name, 60)}"
    share = words.percent(round(entry.share, 2))
    where = words.name(entry.where, 60)
    several = entry.places > 1
    made = f"at {entry.places} places makes {share} of the noise, most at {where}" if several else ""
    return f"{lead}{rule} {made or f'at {where} makes {share} of the noise'}. {_ended(entry.worst.message)}"


def _place(finding: Finding) -> str:
    return f"{words.name(finding.location.label, 60)}: " if finding.location.op_type else ""


def _rest(share: float, made: Sequence[Part]) -> str:
    worst = f"; most of that is {told(made[:1])}" if made and made[0].share > share / 2 else ""
    if not worst and made:
        worst = f", spread over many tensors; the largest part is {told(made[:1])}"
    return f"No rule explains the other {words.percent(round(share, 2))}{worst}."


def _where(made: Sequence[Part], lead: str) -> Iterator[_Reason]:
    """Where the noise is made, where no rule says why."""
    for count in range(1, FEW + 1):
        first = made[:count]
        if sum(part.share for part in first) > 0.5:
            key = tuple((part.key, _tenths(part.share)) for part in first)
            yield _Reason(_capital(f"{lead}{few(first)}."), key)
            return
    if made:
        said = spread(made)
        yield _Reason(_capital(f"{lead}{said[0]}."), made[0].key)
        yield from (_Reason(_capital(f"{sentence}."), None) for sentence in said[1:])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
