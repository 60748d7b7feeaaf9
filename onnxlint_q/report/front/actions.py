"""What to do, most useful first: what makes all else void, what was tried as a whole, what the findings advise."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.calls import exclude_option, quantize_static_call
from onnxlint_q.finding import Finding, Requantisation, Severity
from onnxlint_q.report import digest, words
from onnxlint_q.report.front.cause import undermines
from onnxlint_q.workflow.results import JointRemedy, ModelResult, Verdict

MEASURE = "Run it on your data (--calibrate PATH). This tests every finding and tries remedies."
COMPARE = "Compare it with its float model on your data. This measures what it lost, layer by layer."

_POINTS = re.compile(r"\b(the|this|these|its) (layer|tensor|node)s?\b|\bequalise\b", re.IGNORECASE)
"""Words of an advice that point at places without naming them."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do.

    Attributes:
        text: in words.
        snippet: what is to be typed; empty where there is nothing.
        codes: the rules that advise it.
        command: what does it or explains it, where there is no snippet.
        places: names of the layers and nodes that it is about, those first that cost most; empty where it names them
            itself.
    """

    text: str
    snippet: str = ""
    codes: tuple[str, ...] = ()
    command: str = ""
    places: tuple[str, ...] = ()

    def told(self, limit: int | None = None) -> str:
        """The text, as many whole sentences as fit in `limit` characters, and which places it points at."""
        text = self.text if limit is None else words.opening(self.text, limit)
        if not self.places or not _POINTS.search(text):
            return text
        named = [words.name(place, 60) for place in self.places[:_NAMED]]
        hidden = len(self.places) - len(named)
        *others, last = (*named, f"{hidden} more") if hidden else named
        return f"{text} This is about {', '.join(others)}{' and ' if others else ''}{last}."


def actions(model: ModelResult) -> tuple[Action, ...]:
    """Everything that helps, each once.

    Findings that begin with the same advice, or give the same call, advise one thing.
    """
    groups = digest.group_by_damage(digest.counted(model.findings))
    advised = [common_advice(group.findings) for group in groups]
    about = [_places(model, group.findings, advice) for group, advice in zip(groups, advised, strict=True)]
    told = list(zip(advised, about, strict=True))
    first = [entry for entry in told if undermines(entry[0])]
    others = sorted((entry for entry in told if not undermines(entry[0])), key=lambda entry: _fix_does_it(entry[0]))
    applies, tries = (list(_part_of_fix(model, found=found)) for found in (True, False))
    remarks = [entry for entry in others if entry[0].severity is Severity.INFO] if _can_be_compared(model) else []
    faults = [entry for entry in others if entry not in remarks]
    found = [*_of(first), *_fix(model), *applies, *_tried(model), *_other_scheme(model, advised), *_of(faults)]
    found += tries if not applies else ()
    file = shlex.quote(words.file_name(model.path))
    if _can_be_measured(model):
        found.append(Action(MEASURE, command=f"onnxlint-q {file} --calibrate PATH"))
    if _can_be_compared(model):
        # What it lost decides what remarks are worth.
        found.append(Action(COMPARE, command=f"onnxlint-q compare FLOAT.onnx {file} --calibrate PATH"))
    return tuple(_once([*found, *_of(remarks)]))


def _fix(model: ModelResult) -> Iterator[Action]:
    """The model changed by `fix`, where that was tried and helps."""
    preview = model.preview
    if preview is None or not preview.rewrites:
        return
    known = {result.scheme: result for result in preview.before}
    figures = [
        f"{words.name(after.scheme, 40)} {words.change(known[after.scheme], after)}"
        for after in preview.after
        if after.scheme in known
    ]
    same = words.unchanged(preview.float_sqnr_db)
    yield Action(f"Run fix first: {', '.join(figures)}; float outputs are {same}. Tried.", _fix_call(model))


def _part_of_fix(model: ModelResult, *, found: bool) -> Iterator[Action]:
    """`fix` where nobody tried it as a whole; `found` are rewrites that apply, the others may."""
    if model.preview is not None:
        return
    told = [finding for finding in digest.counted(model.findings) if finding.fixing]
    meant = [one for one in told if one.fixing and one.fixing.found is found and not one.fixing.option]
    names = tuple(dict.fromkeys(name for one in meant if one.fixing for name in one.fixing.rewrites))
    if names:
        codes = tuple(dict.fromkeys(words.shown(one.code, 20) for one in meant))
        does = f"it {'applies' if found else 'tries'} {' and '.join(names)}"
        yield Action(f"Run fix first: {does} {_gain(meant) or '(untried)'}.", _fix_call(model), codes)


def _gain(meant: Sequence[Finding]) -> str:
    """What the rewrite was seen to do for the worst tensor by itself; empty where none was tried."""
    tried = [
        (fixing.before_db, fixing.after_db, finding)
        for finding in meant
        if (fixing := finding.fixing) and fixing.tried and fixing.before_db is not None
    ]
    if not tried:
        return ""
    before, after, finding = min(tried, key=lambda entry: entry[0] or 0.0)
    where = words.name(finding.location.label, 60)
    change = f"{words.figure(before)} → {words.PERFECT if after is None else words.decibel(after)}"
    more = f", and {words.count(len(meant) - 1, 'more place')}" if len(meant) > 1 else ""
    return f"at {where} (that alone: {change}, tried){more}"


def _fix_call(model: ModelResult) -> str:
    file, seen = words.file_name(model.path), model.calibration
    call = f"onnxlint-q fix {shlex.quote(file)} -o {shlex.quote(f'fixed-{file}')}"
    return call if seen is None else f"{call} {shlex.join(('--calibrate', seen.source, *seen.options))}"


def _tried(model: ModelResult) -> Iterator[Action]:
    """What was tried as a whole; where the same nodes help several schemes, one thing with a call for each."""
    alike: dict[Hashable, list[JointRemedy]] = {}
    for remedy in model.remedies:
        alike.setdefault(remedy.nodes_to_exclude or remedy.scheme, []).append(remedy)
    for first, *others in alike.values():
        yield Action(words.joint_remedy(first, *others), "\n".join(one.snippet for one in (first, *others)))


def _fix_does_it(finding: Finding) -> bool:
    """Whether its advice is for who does by hand what `fix` does."""
    return finding.fixing is not None and finding.fixing.found and not finding.fixing.option


def common_advice(findings: Iterable[Finding]) -> Finding:
    """Of findings of one rule the first with the advice that most of them share, its call for all of these."""
    several = tuple(findings)
    common, _ = Counter(finding.own_advice for finding in several).most_common(1)[0]
    alike = [finding for finding in several if finding.own_advice == common]
    return replace(alike[0], snippet=common_call(alike))


def common_call(findings: Sequence[Finding]) -> str:
    """The call for all of these findings, which advise the same; that of the first where they cannot be joined."""
    if not all(finding.nodes_to_exclude for finding in findings):
        return findings[0].snippet
    nodes = dict.fromkeys(name for finding in findings for name in finding.nodes_to_exclude)
    return quantize_static_call(exclude_option(tuple(nodes)))


def _of(told: Iterable[tuple[Finding, tuple[str, ...]]]) -> Iterator[Action]:
    for finding, places in told:
        if finding.own_advice:
            code = words.shown(finding.code, 20)
            yield Action(words.shown(finding.own_advice), finding.snippet, (code,), f"onnxlint-q rule {code}", places)


def _places(model: ModelResult, findings: Iterable[Finding], advice: Finding) -> tuple[str, ...]:
    """Where an advice holds, layers by their own name where findings make claims about them; none that a call names."""
    if advice.nodes_to_exclude:
        return ()
    layers = {row.output: words.layer_label(row) for row in model.layers}
    alike = [finding for finding in findings if finding.own_advice == advice.own_advice]
    found = (
        layers.get(finding.claim.tensor if finding.claim is not None else place.output, place.label)
        for finding in alike
        for place in (finding.location, *finding.places)
        if place.op_type
    )
    return tuple(dict.fromkeys(found))


def _other_scheme(model: ModelResult, advised: Iterable[Finding]) -> Iterator[Action]:
    """Another judged scheme that survives, where neither a trial nor a finding says so."""
    survives = [result for result in model.schemes if result.verdict is Verdict.SURVIVES]
    fails = [result for result in model.schemes if result.verdict in (Verdict.BREAKS, Verdict.DEGRADES)]
    # A finding about one scheme as a whole says what it takes.
    kept = any(finding.claim is None and fails[0].scheme in finding.explains for finding in advised if fails)
    finer = any(isinstance(finding.change, Requantisation) and finding.change.per_channel for finding in advised)
    if survives and fails and not model.remedies and not (finer or kept):
        named = " or ".join(words.name(result.scheme, 40) for result in survives)
        file, made = (
            shlex.quote(name) for name in (words.file_name(model.path), f"int8-{words.file_name(model.path)}")
        )
        call = f"onnxlint-q quantize {file} -o {made} --scheme {shlex.quote(survives[0].scheme)} --calibrate PATH"
        yield Action(f"Quantise as {named} instead of {words.name(fails[0].scheme, 40)}.", command=call)


def _can_be_measured(model: ModelResult) -> bool:
    """Whether data would tell more, and nobody has asked for a run."""
    asked = model.calibration is not None or model.untested_because
    return model.format == "float" and bool(model.schemes) and not asked and not digest.clean(model)


def _can_be_compared(model: ModelResult) -> bool:
    """Whether the file is quantised, and nobody has said what it lost."""
    return model.format != "float" and not model.schemes


def _once(found: Iterable[Action]) -> Iterator[Action]:
    """Each thing once, with the codes of all that advise it."""
    kept: list[Action] = []
    for action in found:
        same = next((index for index, other in enumerate(kept) if _is_same(action, other)), None)
        if same is None:
            kept.append(action)
        else:
            codes = dict.fromkeys((*kept[same].codes, *action.codes))
            places = dict.fromkeys((*kept[same].places, *action.places))
            kept[same] = replace(kept[same], codes=tuple(codes), places=tuple(places))
    yield from kept


def _is_same(action: Action, other: Action) -> bool:
    if action.snippet and action.snippet == other.snippet:
        return True
    return words.opening(action.text, 1) == words.opening(other.text, 1)
