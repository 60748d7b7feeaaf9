"""Why a model fails, in a sentence or two: what the findings say of the tensors that make the noise."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.finding import Evidence, Finding, Severity, Subject
from onnxlint_q.report import digest, words
from onnxlint_q.report.front.noise import Key, Part, parts
from onnxlint_q.workflow.results import Basis, ModelResult, SchemeResult, Verdict

FAILED = (Verdict.BREAKS, Verdict.DEGRADES, Verdict.UNCERTAIN)
LEAST = 0.1
"""A group of findings that tells of less of the noise explains nothing."""
ENOUGH = 0.75
"""Once so much of the noise is explained, what explains the rest is for the list of findings."""
NAMED = 0.01
"""A tensor that makes less of the noise is not named."""
TOLD = 2
"""Groups, and tensors, that are named."""


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
    told: dict[tuple[Hashable, ...], Why] = {}
    for result in model.schemes:
        if result.verdict in FAILED:
            said = tuple(_reasons(model, result, groups))
            key = tuple(reason.key for reason in said)
            first = told.get(key, Why((), result.verdict, tuple(reason.sentence for reason in said)))
            told[key] = replace(first, schemes=(*first.schemes, result.scheme))
    return (*found, *told.values())


@dataclass(frozen=True, slots=True)
class _Reason:
    """A sentence, and what it says but for figures that hardly differ: schemes with the same reasons share them."""

    sentence: str
    key: Hashable


def undermines(finding: Finding) -> bool:
    """Whether it leaves no figure to rely on: an error of the file or the run, or data that was read and is wrong."""
    if finding.claim is not None or finding.severity is Severity.INFO:
        return False
    read = finding.evidence is Evidence.CONFIRMED and finding.measured_db is None
    return finding.severity is Severity.ERROR or read


def _fact(group: digest.Group) -> str:
    return f"{sentence(group.findings[0].message)} ({words.shown(group.code, 20)})"


def sentence(text: str) -> str:
    """A message as a sentence that others follow."""
    shown = words.shown(text)
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a group of findings tells of the noise of a scheme.

    Attributes:
        worst: the finding about the tensor that makes most of it.
        keys: the tensors it speaks of.
    """

    group: digest.Group
    worst: Finding
    share: float
    keys: frozenset[Key]


def _reasons(model: ModelResult, result: SchemeResult, groups: Sequence[digest.Group]) -> Iterator[_Reason]:
    made = parts(model, result)
    lead = "By the forecast, " if result.basis is Basis.FORECAST else ""
    explained = sorted(_explained(result, groups, made), key=lambda entry: -entry.share)
    said, keys = 0.0, set[Key]()
    for entry in explained[:TOLD]:
        if entry.share < LEAST or said >= ENOUGH:
            break
        yield _Reason(
            _told(entry, "" if said else lead), (entry.group.code, entry.worst.fingerprint, _tenths(entry.share))
        )
        if not said and (effect := _effect(entry.worst)):
            yield _Reason(sentence(effect), None)
        said += entry.share
        keys |= entry.keys
    if said:
        if said < ENOUGH:
            yield _Reason(_rest(1 - said, [part for part in made if part.key not in keys]), _tenths(said))
        return
    elsewhere = not made or _between(result)
    named = next((group for group in groups if elsewhere and _accuses(group, result)), None)
    if named is None:
        yield _Reason("No rule explains it.", None)
    yield from _where(result, made, lead)
    if named is not None:
        yield _Reason(f"{_place(named.findings[0])}{_fact(named)}", named.findings[0].fingerprint)


def _effect(finding: Finding) -> str:
    """The last link of the chain of causes, which a cure may follow; empty without a chain."""
    links = finding.causes[:-1] if finding.cure is not None else finding.causes
    return links[-1] if links else ""


def _tenths(share: float) -> int:
    return round(10 * share)


def _between(result: SchemeResult) -> bool:
    """Whether most of the noise is made where no layer is, as far as a forecast tells."""
    return result.rest_share is not None and result.rest_share >= 0.5


def _accuses(group: digest.Group, result: SchemeResult) -> bool:
    """Whether a group of findings says that tensors cost the scheme something."""
    return group.severity is not Severity.INFO and any(_key(finding, result) is not None for finding in group.findings)


def _key(finding: Finding, result: SchemeResult) -> Key | None:
    """The tensor that a finding makes a claim about, if it holds for the scheme; activations cost all schemes alike."""
    claim = finding.claim
    if claim is None or (claim.subject is Subject.WEIGHT and claim.scheme != result.scheme):
        return None
    return claim.subject, claim.tensor


def _explained(result: SchemeResult, groups: Sequence[digest.Group], made: Sequence[Part]) -> Iterator[_Explained]:
    shares = {part.key: part.share for part in made}
    for group in groups:
        about = {key: finding for finding in group.findings if (key := _key(finding, result)) in shares}
        if about:
            worst = max(about, key=lambda key: shares[key])
            yield _Explained(group, about[worst], sum(shares[key] for key in about), frozenset(about))


def _told(entry: _Explained, lead: str) -> str:
    rule = f"{words.shown(entry.group.code, 20)} {words.shown(entry.group.name, 60)}"
    share = words.percent(round(entry.share, 2))
    where = words.name(entry.worst.location.label, 60)
    several = len(entry.keys) > 1
    made = f"at {len(entry.keys)} places makes {share} of the noise, most at {where}" if several else ""
    return f"{lead}{rule} {made or f'at {where} makes {share} of the noise'}. {sentence(entry.worst.message)}"


def _place(finding: Finding) -> str:
    return f"{words.name(finding.location.label, 60)}: " if finding.location.op_type else ""


def _rest(share: float, made: Sequence[Part]) -> str:
    worst = f"; most of that is {_parts(made[:1])}" if made and made[0].share > share / 2 else ""
    if not worst and made:
        worst = f", spread over many tensors; the largest part is {_parts(made[:1])}"
    return f"No rule explains the other {words.percent(round(share, 2))}{worst}."


def _where(result: SchemeResult, made: Sequence[Part], lead: str) -> Iterator[_Reason]:
    """Where the noise is made, where no rule says why."""
    first = [part for part in made[:TOLD] if part.share >= NAMED]
    if _between(result):
        share = result.rest_share or 0.0
        said = f"{lead}{words.percent(round(share, 2))} of the noise comes from activations between the layers"
        yield _Reason(f"{said}, not from weights.", _tenths(share))
    elif first:
        most = sum(part.share for part in first) > 0.5
        said = (
            "most of the noise comes from" if most else "the noise is spread over many tensors; the largest parts are"
        )
        yield _Reason(_capital(f"{lead}{said} {_parts(first)}."), tuple(part.key for part in first))


def _parts(made: Sequence[Part]) -> str:
    return " and ".join(f"{part.said} ({words.percent(round(part.share, 2))})" for part in made)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
