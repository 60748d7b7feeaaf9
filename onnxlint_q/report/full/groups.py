"""Findings by rule: a rule and what it says, the places where, and on demand all that is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.finding import Finding, Severity
from onnxlint_q.report import digest, words
from onnxlint_q.report.front.actions import common_call
from onnxlint_q.report.full.drawing import EVIDENCE_STYLE, SEVERITY_STYLE, indented, typed
from onnxlint_q.report.full.screen import Detail
from onnxlint_q.report.layers import of_claim
from onnxlint_q.workflow.results import ModelResult


def brief(model: ModelResult, detail: Detail, told: Collection[str]) -> Iterator[RenderableType]:
    """The groups that count, and which rules a run refuted.

    A sentence that stands in one of those `told` above is not told twice.
    """
    groups = digest.group_by_damage(digest.counted(model.findings))
    if groups:
        yield from _heading(groups)
    for group in groups[: detail.groups]:
        yield title(model, group)
        first = group.findings[0]
        said = words.shown(first.message)
        has_room = detail.sentences is not None and group.severity.rank >= detail.sentences.rank
        if has_room and not any(said in text for text in told):
            yield indented(Text(f"{_label(first) if len(group.findings) > 1 else ''}{said}"), 2)
        if detail.places and len(group.findings) > 1:
            yield _places(model, group, detail.places)
    hidden = groups[detail.groups :]
    if hidden:
        yield Text(
            f"and {', '.join(words.shown(group.code, 20) for group in hidden[:12])}: onnxlint-q rule CODE", "dim"
        )
    if refuted := digest.group_by_rule(digest.refuted(model.findings)):
        rules = (f"{words.shown(g.code, 20)} at {words.count(len(g.findings), 'place')}" for g in refuted[:6])
        yield Text(f"{words.REFUTED}: {', '.join(rules)}.", "dim")


def everything(model: ModelResult) -> Iterator[RenderableType]:
    """All groups with all places, causes and advice, and the findings that a run refuted."""
    groups = digest.group_by_damage(digest.counted(model.findings))
    if groups:
        yield from _heading(groups)
    for index, group in enumerate(groups):
        if index:
            yield Text()
        yield title(model, group)
        yield from _body(model, group)
    if refuted := digest.group_by_rule(digest.refuted(model.findings)):
        yield Text()
        yield Text(f"{words.REFUTED}.", "dim")
        for group in refuted:
            yield indented(Text(f"{words.shown(group.code, 20)} {words.shown(group.name, 60)}", "dim"), 2)
            yield _places(model, group)


def suppressed(model: ModelResult) -> Iterator[RenderableType]:
    """What somebody knows of, a line each, with the reason."""
    if not model.suppressed:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    table.add_column(overflow="fold", ratio=1)
    for finding in model.suppressed:
        where = words.brief_place(finding.location, 56)
        table.add_row(words.shown(finding.code, 20), Text(where), Text(words.suppressed(finding), "dim"))
    yield Text()
    yield Text(f"Suppressed: {len(model.suppressed)}", "bold")
    yield indented(table, 2)


def _heading(groups: Iterable[digest.Group]) -> Iterator[RenderableType]:
    found = {group.severity for group in groups}
    marks = "  ".join(f"{words.SEVERITY_MARK[severity]} {severity}" for severity in Severity if severity in found)
    yield Text()
    yield Text.assemble(("Findings", "bold"), (f"  {marks}", "dim"))


def title(model: ModelResult, group: digest.Group) -> RenderableType:
    """Severity, rule, how many places, the worst figure, and how to read more."""
    total = _total(group) if len(group.findings) > 1 else ""
    worst = words.worst_figure((finding, of_claim(model, finding)) for finding in group.findings)
    # Where there are several places, each says by itself what else is found there.
    also = "" if total else ", ".join(words.shown(other, 20) for other in group.also(0))
    facts = ", ".join(filter(None, (total, worst, f"also {also}" if also else "")))
    code = words.shown(group.code, 20)
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, justify="right")
    left = Text.assemble(
        (f"{words.SEVERITY_MARK[group.severity]} ", SEVERITY_STYLE[group.severity]),
        (f"{code} {words.shown(group.name, 60)}", "bold"),
        (f"  {facts}", "dim") if facts else "",
    )
    table.add_row(left, Text(f"onnxlint-q rule {code}", "dim"))
    return table


def _total(group: digest.Group) -> str:
    """`9 places`, `9 places (6 warnings, 3 info)`."""
    total, kinds = words.count(len(group.findings), "place"), Counter(finding.severity for finding in group.findings)
    if len(kinds) == 1:
        return total
    parts = (words.count(kinds[one], one, one * (one is Severity.INFO)) for one in Severity if kinds[one])
    return f"{total} ({', '.join(parts)})"


def _label(finding: Finding) -> str:
    return f"{words.name(finding.location.label, 60)}: " if finding.location.op_type else ""


def _body(model: ModelResult, group: digest.Group) -> Iterator[RenderableType]:
    first = group.findings[0]
    several = len(group.findings) > 1
    yield indented(Text(words.place(first.location)), 2)
    yield indented(Text(words.shown(first.message)), 2)
    if first.causes:
        table = Table.grid(padding=(0, 1))
        for number, cause in enumerate(first.causes, start=1):
            table.add_row(Text(f"{number}."), Text(words.shown(cause)))
        yield indented(Text("Step by step:"), 2)
        yield indented(table, 4)
    if further := words.further_places(first):
        yield indented(Text(further), 2)
    for text in filter(None, (words.claim(first, of_claim(model, first)), words.shown(first.note))):
        yield indented(Text(text, "dim"), 2)
    if several:
        yield indented(Text("All places:"), 2)
        yield _places(model, group)
    yield from _advice(group)


def _places(model: ModelResult, group: digest.Group, limit: int | None = None) -> RenderableType:
    """Mark, evidence, place, and which other rules say the same, in one line each."""
    shown = group.findings if limit is None else group.findings[:limit]
    mixed = len({finding.severity for finding in group.findings}) > 1
    evidence = [words.brief_evidence(finding, of_claim(model, finding)) for finding in shown]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for index, (finding, known) in enumerate(zip(shown, evidence, strict=True)):
        also = ", ".join(words.shown(other, 20) for other in group.also(index))
        mark = words.SEVERITY_MARK[finding.severity] if mixed else "·"
        where = Text.assemble(words.brief_place(finding.location, 56), (f"  also {also}" if also else "", "dim"))
        said = [Text(known, EVIDENCE_STYLE.get(finding.evidence, "dim"))] if any(evidence) else []
        table.add_row(Text(mark, SEVERITY_STYLE[finding.severity]), *said, where)
        # What makes no claim has no figure: its message tells it apart.
        if limit is None and index and finding.claim is None and finding.message != group.findings[0].message:
            table.add_row(*[""] * (len(said) + 1), Text(words.shown(finding.message), "dim"))
    hidden = len(group.findings) - len(shown)
    if hidden:
        table.add_row(*[""] * (1 + any(evidence)), Text(f"and {hidden} more", "dim"))
    return indented(table, 2)


def _advice(group: digest.Group) -> Iterator[RenderableType]:
    """What the rule advises, and for which places where it differs; then what others advise of the same damage."""
    advised: dict[tuple[str, str], list[Finding]] = {}
    for finding in group.findings:
        # Lists of nodes are joined: who follows the advice leaves all of them in float.
        call = "" if finding.nodes_to_exclude else finding.snippet
        advised.setdefault((finding.advice, call), []).append(finding)
    for (advice, _), findings in advised.items():
        who = ""
        if len(advised) > 1:
            others = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
            who = f"For {words.name(findings[0].location.label, 60)}{others}: "
        yield from _arrow(f"{who}{words.shown(advice)}" if advice else "", common_call(findings))
    told = {finding.snippet for finding in group.findings}
    for other in (other for others in group.same for other in others):
        if other.snippet not in told:
            told.add(other.snippet)
            yield from _arrow(words.shown(other.advice), other.snippet)


def _arrow(advice: str, snippet: str) -> Iterator[RenderableType]:
    if advice:
        table = Table.grid(padding=(0, 1))
        table.add_row(Text("→", "bold"), Text(advice))
        yield indented(table, 2)
    yield from typed(snippet)
