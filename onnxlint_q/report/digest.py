"""What several formats pick out of a run: groups, counts, and sentences that say all of a finding or a verdict."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from urllib.parse import quote

from onnxlint_q.finding import Claim, Evidence, Finding, Severity
from onnxlint_q.report import words
from onnxlint_q.report.layers import of_claim
from onnxlint_q.report.words import count, name
from onnxlint_q.workflow.results import ModelResult, Run, SchemeResult, Verdict

ALARMS: Mapping[Verdict | None, Severity] = {
    Verdict.BREAKS: Severity.ERROR,
    Verdict.DEGRADES: Severity.WARNING,
    Verdict.UNCERTAIN: Severity.INFO,
    None: Severity.INFO,
}
"""How much a verdict matters to a format that knows only findings; one that is not here is no alarm."""
LONGEST_CALL = 600
"""Characters of a call that is told in a sentence's place; half a call is none."""


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one rule, in the order given.

    Attributes:
        same: for each finding those of other rules that tell the same damage; empty, or as long as `findings`.
    """

    code: str
    name: str
    findings: tuple[Finding, ...]
    same: tuple[tuple[Finding, ...], ...] = ()

    def same_as(self, index: int) -> tuple[Finding, ...]:
        """What other rules say of the same damage as the finding at `index`."""
        return self.same[index] if self.same else ()

    def also(self, index: int) -> tuple[str, ...]:
        """Codes of all other rules that tell the same damage as the finding at `index`."""
        others = (*self.findings[index].also, *(finding.code for finding in self.same_as(index)))
        return tuple(code for code in dict.fromkeys(others) if code != self.code)

    @property
    def severity(self) -> Severity:
        """The highest of its findings."""
        return max((finding.severity for finding in self.findings), key=lambda severity: severity.rank)

    @property
    def evidence(self) -> str:
        """`3 confirmed, 11 untested`; empty where all are facts of the file."""
        kinds = (Evidence.CONFIRMED, Evidence.UNTESTED)
        totals = ((sum(f.evidence is kind for f in self.findings), kind) for kind in kinds)
        return ", ".join(f"{total} {kind.value}" for total, kind in totals if total)


def group_by_rule(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """One group a rule, at the place of its first finding."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.name), []).append(finding)
    return tuple(Group(*key, tuple(members)) for key, members in groups.items())


def group_by_damage(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """`group_by_rule` of the findings that are first to tell a damage; the others stand under theirs.

    Findings of different rules tell one damage if they make the same claim: then one experiment decides on them all. A
    mere remark on a node, which makes none, stands under what another rule claims of that node.
    """
    told = tuple(findings)
    by_claim: dict[Claim, Finding] = {}
    by_place: dict[tuple[str, str], Finding] = {}
    for finding in told:
        if finding.claim is not None:
            first = by_claim.setdefault(finding.claim, finding)
            by_place.setdefault(_place(finding), first)
    firsts: list[Finding] = []
    same: dict[int, list[Finding]] = {}
    for finding in told:
        first = by_claim[finding.claim] if finding.claim is not None else finding
        if _is_remark(finding):
            first = by_place.get(_place(finding), finding)
        if first.code == finding.code:
            firsts.append(finding)
        else:
            same.setdefault(id(first), []).append(finding)
    return tuple(
        replace(group, same=tuple(tuple(same.get(id(finding), ())) for finding in group.findings))
        for group in group_by_rule(firsts)
    )


def _place(finding: Finding) -> tuple[str, str]:
    return finding.location.graph, finding.location.output


def _is_remark(finding: Finding) -> bool:
    """Whether it says of a node what costs nothing by itself."""
    return finding.claim is None and finding.severity is Severity.INFO and bool(finding.location.op_type)


@dataclass(frozen=True, slots=True)
class Fault:
    """What one or more findings tell: the same damage, by the highest of their severities."""

    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """The highest of its findings."""
        return max((finding.severity for finding in self.findings), key=lambda severity: severity.rank)

    @property
    def confirmed(self) -> bool:
        """Whether a run confirmed it."""
        return any(finding.evidence is Evidence.CONFIRMED for finding in self.findings)


def faults(findings: Iterable[Finding]) -> tuple[Fault, ...]:
    """The findings that count, each damage once."""
    return tuple(
        Fault((finding, *group.same_as(index)))
        for group in group_by_damage(counted(findings))
        for index, finding in enumerate(group.findings)
    )


def tally(told: Iterable[Fault]) -> tuple[tuple[Severity, int], ...]:
    """How many faults there are of each severity that occurs, highest first."""
    found = Counter(fault.severity for fault in told)
    return tuple((severity, found[severity]) for severity in Severity if found[severity])


def amount(severity: Severity, total: int) -> str:
    """`3 warnings`, `2 info`."""
    return count(total, severity.value, severity.value if severity is Severity.INFO else "")


def counted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that count."""
    return tuple(finding for finding in findings if finding.counts)


def refuted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those a run refuted."""
    return tuple(finding for finding in findings if not finding.counts)


def alarms(model: ModelResult) -> tuple[tuple[SchemeResult, Severity], ...]:
    """The verdicts on a model that a format without a place for verdicts has to tell, and how much they matter."""
    return tuple((result, severity) for result, severity in _told(model) if result.scheme not in model.accepted)


def known_alarms(model: ModelResult) -> tuple[tuple[SchemeResult, Severity], ...]:
    """Those that a baseline accepts."""
    return tuple((result, severity) for result, severity in _told(model) if result.scheme in model.accepted)


def _told(model: ModelResult) -> Iterator[tuple[SchemeResult, Severity]]:
    return ((result, ALARMS[result.verdict]) for result in model.schemes if result.verdict in ALARMS)


def verdict_sentences(model: ModelResult, result: SchemeResult) -> Iterator[str]:
    """All of a verdict: what it is, the figures and what they rest on, what weakens it, what was tried against it."""
    figures, basis = words.reason(result), words.basis(result, model.calibration)
    yield f"{name(result.scheme, 40)} {words.judged(result)}: {figures.rstrip('.')}; {basis}."
    if mended := words.mended(result):
        yield f"{mended[:1].upper()}{mended[1:].rstrip('.')}."
    if note := words.note(result):
        yield f"{note.rstrip('.')}."
    if decides := words.deciding(result):
        yield f"{decides[:1].upper()}{decides[1:]}."
    for remedy in model.remedies:
        if remedy.scheme == result.scheme:
            yield words.joint_remedy(remedy)
            yield _call(remedy.snippet)


def _call(snippet: str) -> str:
    if len(snippet) > LONGEST_CALL:
        return "The call is long; the html and json reports have it."
    return "\n".join(map(words.visible, snippet.splitlines()))


def finding_sentences(model: ModelResult, finding: Finding) -> Iterator[str]:
    """All of a finding: the place and what is wrong there, what it claims and what is known of that, what to do."""
    yield f"{words.place(finding.location)}: {words.shown(finding.message)}"
    yield from filter(
        None,
        (words.further_places(finding, 4), words.claim(finding, of_claim(model, finding)), words.shown(finding.advice)),
    )


def page_of(model: ModelResult, finding: Finding) -> str:
    """Address of the page of its rule; empty where nobody said where the pages are."""
    code, title = quote(finding.code, errors="backslashreplace"), quote(finding.name, errors="backslashreplace")
    return model.rule_pages.replace("{code}", code).replace("{name}", title)


def help_of(model: ModelResult, finding: Finding) -> str:
    """Where more is said of its rule: the address of its page, else the command that prints it."""
    return page_of(model, finding) or f"onnxlint-q rule {words.shown(finding.code, 20)}"


def path_from_here(path: str) -> str:
    """A path as a service sees it that knows the checkout only, with `/`: relative if below the working directory.

    A file elsewhere keeps the path that was typed.
    """
    typed = Path(path)
    if typed.is_absolute():
        with suppress(ValueError, OSError):  # the working directory may be gone
            return typed.relative_to(Path.cwd()).as_posix()
        with suppress(ValueError, OSError):  # one of the two was reached by a link
            return Path(os.path.realpath(typed.parent), typed.name).relative_to(os.path.realpath(Path.cwd())).as_posix()
    return PurePath(os.path.normpath(path)).as_posix() if path else ""


def clean(model: ModelResult) -> bool:
    """Whether nothing was found that counts, and nothing speaks against the model: only then a report is green.

    Every scheme was judged and survives, what was asked for was done, and nothing is suppressed.
    """
    survives = all(result.verdict is Verdict.SURVIVES for result in model.schemes)
    done = not model.rule_crashed and not model.untested_because
    return bool(model.schemes) and survives and done and not counted(model.findings) and not model.suppressed


def summary(run: Run) -> str:
    """`totals`, and the verdicts that nobody may overlook."""
    told, alarmed = totals(run), "; ".join(_alarms(run))
    if not alarmed:
        return told
    nothing = not any(counted(model.findings) for model in run.models)
    return f"{told}{', but ' if nothing else '; '}{alarmed}"


def totals(run: Run) -> str:
    """`12 faults in 18 findings (3 errors, 9 warnings; 4 confirmed) and 2 refuted in 1 model`.

    What several findings tell of one damage is one fault; where each tells its own, findings are all that is spoken of.
    """
    findings = [finding for model in run.models for finding in model.findings]
    kept = counted(findings)
    told = [fault for model in run.models for fault in faults(model.findings)]
    parts = ", ".join(amount(severity, total) for severity, total in tally(told))
    confirmed = sum(fault.confirmed for fault in told)
    if confirmed:
        parts += f"; {confirmed} confirmed"
    several = f"{count(len(told), 'fault')} in " if len(told) < len(kept) else ""
    text = f"{several}{count(len(kept), 'finding')} ({parts})" if kept else "no findings"
    if len(findings) > len(kept):
        text += f" and {len(findings) - len(kept)} refuted"
    text += f" in {count(len(run.models), 'model')}"
    suppressed = sum(len(model.suppressed) for model in run.models)
    if suppressed:
        text += f", {suppressed} suppressed"
    if run.failures:
        text += f", {count(len(run.failures), 'model')} could not be linted"
    return text


def _alarms(run: Run) -> Iterator[str]:
    """`breaks under int8-per-tensor in 2`, where there are several models."""
    new = [result for model in run.models for result, _ in alarms(model)]
    known = [result for model in run.models for result, _ in known_alarms(model)]
    for results, verdict, word in (
        (new, Verdict.BREAKS, "breaks"),
        (known, Verdict.BREAKS, "known to break"),
        (new, Verdict.UNCERTAIN, "uncertain"),
        (new, None, "no verdict"),
    ):
        schemes = Counter(result.scheme for result in results if result.verdict is verdict)
        if schemes:
            several = len(run.models) > 1
            listed = (
                name(scheme, 40) + (f" ({count(models, 'model')})" if several else "")
                for scheme, models in schemes.items()
            )
            yield f"{word} under {', '.join(listed)}"
