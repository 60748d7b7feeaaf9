"""What to do, most useful first: what makes all else void, what was tried as a whole, what the findings advise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from onnxlint_q.finding import Finding, Requantisation
from onnxlint_q.report import digest, words
from onnxlint_q.report.front.cause import undermines
from onnxlint_q.workflow.results import ModelResult, Verdict

MEASURE = "Run it on your data (--calibrate PATH). This tests every finding and tries remedies."


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do.

    Attributes:
        text: in words.
        snippet: what is to be typed; empty where there is nothing.
        codes: the rules that advise it.
    """

    text: str
    snippet: str = ""
    codes: tuple[str, ...] = ()


def actions(model: ModelResult) -> tuple[Action, ...]:
    """Everything that helps, each once.

    Findings that begin with the same advice, or give the same call, advise one thing.
    """
    groups = digest.group_by_damage(digest.counted(model.findings))
    advised = [common_advice(group.findings) for group in groups]
    first = [finding for finding in advised if undermines(finding)]
    others = [finding for finding in advised if not undermines(finding)]
    tried = [Action(words.joint_remedy(remedy), remedy.snippet) for remedy in model.remedies]
    found = [*_of(first), *tried, *_other_scheme(model, advised), *_of(others)]
    if _can_be_measured(model):
        found.append(Action(MEASURE))
    return tuple(_once(found))


def common_advice(findings: Iterable[Finding]) -> Finding:
    """Of findings of one rule the first with the advice that most of them share."""
    several = tuple(findings)
    common, _ = Counter(finding.advice for finding in several).most_common(1)[0]
    return next(finding for finding in several if finding.advice == common)


def _of(findings: Iterable[Finding]) -> Iterator[Action]:
    for finding in findings:
        if finding.advice:
            yield Action(words.shown(finding.advice), finding.snippet, (words.shown(finding.code, 20),))


def _other_scheme(model: ModelResult, advised: Iterable[Finding]) -> Iterator[Action]:
    """Another judged scheme that survives, where neither a trial nor a finding says so."""
    survives = [result for result in model.schemes if result.verdict is Verdict.SURVIVES]
    fails = [result for result in model.schemes if result.verdict in (Verdict.BREAKS, Verdict.DEGRADES)]
    finer = any(isinstance(finding.change, Requantisation) and finding.change.per_channel for finding in advised)
    if survives and fails and not model.remedies and not finer:
        named = " or ".join(words.name(result.scheme, 40) for result in survives)
        yield Action(f"Quantise as {named} instead of {words.name(fails[0].scheme, 40)}.")


def _can_be_measured(model: ModelResult) -> bool:
    """Whether data would tell more, and nobody has asked for a run."""
    asked = model.calibration is not None or model.untested_because
    return model.format == "float" and bool(model.schemes) and not asked and not digest.clean(model)


def _once(found: Iterable[Action]) -> Iterator[Action]:
    """Each thing once, with the codes of all that advise it."""
    kept: list[Action] = []
    for action in found:
        same = next((index for index, other in enumerate(kept) if _is_same(action, other)), None)
        if same is None:
            kept.append(action)
        else:
            codes = dict.fromkeys((*kept[same].codes, *action.codes))
            kept[same] = replace(kept[same], codes=tuple(codes))
    yield from kept


def _is_same(action: Action, other: Action) -> bool:
    if action.snippet and action.snippet == other.snippet:
        return True
    return words.opening(action.text, 1) == words.opening(other.text, 1)
