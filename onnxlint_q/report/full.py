"""`full`: the report for a terminal, 80 to 120 columns; without colour it is plain text that never changes.

Every name reaches rich as `Text`, never as markup.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxlint_q.finding import Evidence, Finding, Severity
from onnxlint_q.report import digest, tensors, words
from onnxlint_q.report.layers import noise_share, of_claim, worst_layers
from onnxlint_q.workflow.results import LayerRow, LayerSqnr, ModelResult, Run, SchemeResult, Verdict

WORST = 10
"""Rows of the table of worst layers."""
PLACES = 8
"""Places of one rule that are listed."""

SEVERITY_STYLE = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
VERDICT_STYLE = {
    Verdict.BREAKS: "bold red",
    Verdict.DEGRADES: "bold yellow",
    Verdict.SURVIVES: "bold green",
    None: "bold",
}
EVIDENCE_STYLE = {Evidence.CONFIRMED: "bold", Evidence.REFUTED: "dim"}


def render(run: Run, width: int = 100, colour: bool = False) -> str:
    """The report as text `width` columns wide, with ANSI colours if `colour`."""
    return drawn(_run(run, width), width, colour)


def drawn(content: Iterable[RenderableType], width: int, colour: bool) -> str:
    """What rich draws of `content`, without blanks at the ends of lines."""
    # _environ: what is drawn follows the arguments alone, never COLUMNS, FORCE_COLOR or a notebook.
    console = Console(
        file=io.StringIO(),
        width=width,
        color_system="standard" if colour else None,
        force_terminal=colour,
        no_color=not colour,
        force_jupyter=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ={},
    )
    with console.capture() as capture:
        for part in content:
            # What is to be typed goes on beyond the width: a break within it would be typed as well.
            console.print(part, crop=False)
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _run(run: Run, width: int) -> Iterator[RenderableType]:
    for model in run.models:
        yield Group(*_model(model, width))
        yield Text()
    for failure in run.failures:
        yield Text(f"✖ could not be linted: {words.shown(failure.message)}", "bold red")
    yield Text(_capitalised(digest.summary(run)), "bold")


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def indented(content: RenderableType, columns: int) -> RenderableType:
    """`content` so many columns to the right."""
    return Padding(content, (0, 0, 0, columns))


def _model(model: ModelResult, width: int) -> Iterator[RenderableType]:
    yield Text(words.name(model.path) or "(no name)", "bold underline")
    yield Text(words.headline(model), "dim")
    if model.calibration is not None:
        yield Text(f"calibration {words.calibration_words(model.calibration)}", "dim")
    for warning in words.warnings(model):
        yield Text()
        yield Text(f"▲ {warning}", "bold yellow")
    if model.schemes:
        yield Text()
        yield _verdicts(model)
    yield from _remedies(model)
    if not digest.counted(model.findings):
        clean = digest.clean(model)
        mark, style = ("✔ ", "green") if clean else ("", "")
        yield Text()
        yield Text(f"{mark}{words.nothing_found(model, clean)}", style)
    yield from findings_of(model, width)
    lost = [result for result in model.schemes if result.noise]
    for result in lost:
        yield from _costly_tensors(result)
    if not lost or any(row.measured and _has_both(row.measured.values()) for row in model.layers):
        yield from _worst_layers(model)
    yield from _trials(model)
    if model.notes:
        yield Text()
        yield Text("Not analysed", "bold")
        for note in model.notes:
            yield indented(Text(f"· {words.shown(note)}"), 2)
    if model.seconds:
        yield Text()
        yield Text(words.time_spent(model.seconds), "dim")


def findings_of(model: ModelResult, width: int) -> Iterator[RenderableType]:
    """The findings that count, by damage, and those that a run refuted."""
    for group in digest.group_by_damage(digest.counted(model.findings)):
        yield Text()
        yield from _single(model, group) if len(group.findings) == 1 else _group(model, group, width)
    if refuted := digest.refuted(model.findings):
        yield Text()
        yield from _refuted(refuted, width)


def _verdicts(model: ModelResult) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=24, overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for result in model.schemes:
        table.add_row(
            Text(words.name(result.scheme, 80), "bold"),
            Text(words.marked_verdict(result.verdict), VERDICT_STYLE[result.verdict]),
            Text(f"{words.reason(result)}; {words.basis(result, model.calibration)}"),
        )
        if result.top1 is not None:
            table.add_row("", "", Text(_capitalised(words.accuracy(result.top1))))
        for line in (*words.outputs(result), *filter(None, [words.note(result)])):
            table.add_row("", "", Text(line, "dim"))
    return indented(table, 2)


def _remedies(model: ModelResult) -> Iterator[RenderableType]:
    """What to do, tried; the calls in full, because they are to be typed."""
    for remedy in model.remedies:
        yield Text()
        yield Text(f"→ {words.joint_remedy(remedy)}", "bold")
        for line in remedy.snippet.splitlines():
            yield _typed(line)


def _typed(line: str) -> Text:
    """A line of what is to be typed, as it is."""
    return Text("    " + words.shown(line, 2000), "cyan", no_wrap=True, overflow="ignore")


def _title(severity: Severity, code: str, name: str, right: str) -> Text:
    mark = f"{words.SEVERITY_MARK[severity]} {severity.value}"
    return Text.assemble(
        (f"{mark:<9} ", SEVERITY_STYLE[severity]),
        (f"{words.shown(code, 20)} {words.shown(name, 60)}", "bold"),
        (f"  {right}", "dim") if right else "",
    )


def _advice(finding: Finding) -> Iterator[RenderableType]:
    """The remedy, and the options for it as they are typed."""
    if finding.advice:
        table = Table.grid(padding=(0, 1))
        table.add_row(Text("→", "bold"), Text(words.shown(finding.advice)))
        yield indented(table, 2)
    if finding.snippet:
        lines = finding.snippet.splitlines()
        for line in lines[:12]:
            yield _typed(line)
        if len(lines) > 12:
            yield indented(Text(f"… and {len(lines) - 12} more lines in the json report", "dim"), 4)


def _single(model: ModelResult, group: digest.Group) -> Iterator[RenderableType]:
    finding, others = group.findings[0], group.same_as(0)
    known = of_claim(model, finding)
    yield _title(finding.severity, finding.code, finding.name, words.evidence(finding, known))
    yield indented(Text(words.place(finding.location)), 2)
    yield indented(Text(words.shown(finding.message)), 2)
    yield from _causes(finding)
    if said := words.claim(finding, known):
        yield indented(Text(said, "dim"), 2)
    if finding.note:
        yield indented(Text(words.shown(finding.note), "dim"), 2)
    if others:
        yield indented(Text(words.same_damage(others)), 2)
    for other in others:
        # Where the chain is the same the message would only tell it again.
        if not finding.causes or other.causes != finding.causes:
            yield indented(Text(f"{words.shown(other.code, 20)}: {words.shown(other.message)}", "dim"), 2)
    yield from _advice(finding)
    yield from _other_advice(finding, others)


def _causes(finding: Finding, title: str = "Why, in order") -> Iterator[RenderableType]:
    """The chain, one numbered sentence a link."""
    if finding.causes:
        table = Table.grid(padding=(0, 1))
        for number, cause in enumerate(finding.causes, start=1):
            table.add_row(Text(f"{number}."), Text(words.shown(cause)))
        yield indented(Text(f"{title}:"), 2)
        yield indented(table, 4)


def _other_advice(first: Finding, others: Iterable[Finding]) -> Iterator[RenderableType]:
    """What findings of the same damage advise beyond the first, once for each set of options."""
    told = {first.snippet}
    for other in others:
        if other.snippet not in told:
            told.add(other.snippet)
            yield from _advice(other)


def _group(model: ModelResult, group: digest.Group, width: int) -> Iterator[RenderableType]:
    """One block for a rule that fires in many places: the reader needs the list, and the remedy once."""
    total = words.count(len(group.findings), "place")
    right = f"{total}, {group.evidence}" if group.evidence else total
    yield _title(group.severity, group.code, group.name, right)
    same_message = len({finding.message for finding in group.findings}) == 1
    if same_message:
        yield indented(Text(words.shown(group.findings[0].message)), 2)
    mixed = len({finding.severity for finding in group.findings}) > 1
    evidence = [words.brief_evidence(finding, of_claim(model, finding)) for finding in group.findings]
    table = _places(evidence)
    # The numbers of a message stand in its second line; what is longer is in the other reports.
    column = max(map(len, evidence))
    room = 2 * (width - 10 - column) - 10
    for index, finding in enumerate(group.findings[:PLACES]):
        style = SEVERITY_STYLE[finding.severity]
        mark = Text(words.SEVERITY_MARK[finding.severity], style) if mixed else Text("·")
        said = Text(evidence[index], EVIDENCE_STYLE.get(finding.evidence, "dim"))
        table.add_row(mark, said, Text(words.brief_place(finding.location, width - 11 - column)))
        if not same_message:
            table.add_row("", "", Text(words.shown(finding.message, room), "dim"))
        if others := group.same_as(index):
            table.add_row("", "", Text(words.same_damage(others), "dim"))
    yield indented(table, 2)
    yield from _more(len(group.findings) - PLACES)
    first = next((finding for finding in group.findings[:PLACES] if finding.causes), None)
    if first is not None:
        yield from _causes(first, f"Why, in order, at {words.name(first.location.label, 60)}")
        if first.note:
            yield indented(Text(words.shown(first.note), "dim"), 2)
    yield from _remedy(group.findings)
    yield from _other_advice(group.findings[0], next(filter(None, group.same), ()))


def _remedy(findings: tuple[Finding, ...]) -> Iterator[RenderableType]:
    """The remedy that most places share, and for which places it is where others have another."""
    common, _ = Counter(finding.advice for finding in findings).most_common(1)[0]
    first, *rest = (finding for finding in findings if finding.advice == common)
    if len({(finding.advice, finding.snippet) for finding in findings}) > 1:
        label = words.name(first.location.label, 60) + (f" and {len(rest)} more" if rest else "")
        yield indented(Text(f"For {label}; the json and html reports say it for each:"), 2)
    yield from _advice(first)


def _places(evidence: Sequence[str]) -> Table:
    """Mark, evidence and place in one line each; a message below its place may take two."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=1)
    table.add_column(no_wrap=True, min_width=max(map(len, evidence)))
    table.add_column(overflow="fold")
    return table


def _more(hidden: int) -> Iterator[RenderableType]:
    if hidden > 0:
        yield indented(Text(f"and {hidden} more", "dim"), 5)


def _refuted(findings: tuple[Finding, ...], width: int) -> Iterator[RenderableType]:
    yield Text("Refuted by the run; these do not count", "dim")
    for group in digest.group_by_rule(findings):
        yield indented(Text(f"{words.shown(group.code, 20)} {words.shown(group.name, 60)}", "dim"), 2)
        table = _places([words.evidence(finding) for finding in group.findings])
        for finding in group.findings[:PLACES]:
            where = words.brief_place(finding.location, width - 28)
            table.add_row(*(Text(cell, "dim") for cell in ("·", words.evidence(finding), where)))
        yield indented(table, 2)
        yield from _more(len(group.findings) - PLACES)


def _has_both(measured: Iterable[LayerSqnr]) -> bool:
    """Whether layers were measured as a whole, which is what a table of them was asked for."""
    return any(sqnr.sqnr_db is not None for sqnr in measured)


def _costly_tensors(result: SchemeResult) -> Iterator[RenderableType]:
    rows = result.noise[:WORST]
    yield Text()
    yield Text(tensors.title(result), "bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    labels = [words.name(tensors.label(row), 96) for row in rows]
    table.add_column("operator", min_width=min(16, max(map(len, labels))), overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("tensor", no_wrap=True)
    for column in ("dB", "share of\nnoise"):
        table.add_column(column, justify="right", no_wrap=True)
    for row, label in zip(rows, labels, strict=True):
        cells = (label, words.name(row.op_type, 12), tensors.part(row), words.figure(row.sqnr_db), tensors.share(row))
        table.add_row(*map(Text, cells))
    yield indented(table, 2)
    if more := tensors.more(result, len(rows)):
        yield indented(Text(more, "dim"), 2)
    yield indented(Text(tensors.legend(result), "dim"), 2)


def _worst_layers(model: ModelResult) -> Iterator[RenderableType]:
    if not model.schemes:
        return
    scheme = model.schemes[0].scheme
    worst = worst_layers(model, scheme, WORST)
    if not worst:
        return
    yield Text()
    yield Text(f"Layers that cost the output most under {words.name(scheme, 40)}", "bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    labels = [words.name(words.layer_label(row), 96) for row, _ in worst]
    # Never so narrow that a name becomes a ribbon, whatever the other columns hold.
    table.add_column("layer", min_width=min(16, max(map(len, labels))), overflow="fold")
    table.add_column("", no_wrap=True)
    full = any(known.output_db is not None for _, known in worst)
    stages = {words.how_known(known) for _, known in worst}
    stage = next(iter(stages)) if len(stages) == 1 else ""
    # Where the run contradicts the forecast of a layer, its share of the noise is as wrong.
    shares = [None if known.floor_db is not None else noise_share(row, scheme) for row, known in worst]
    budget = any(share is not None for share in shares)
    levels = [f"{stage or 'weight'}\ndB", *(["result\ndB", "both\ndB"] if full else [])]
    for title in ("range", "average\nprecision", *levels):
        table.add_column(title, justify="right", no_wrap=True)
    if not stage:
        table.add_column("how\nknown", no_wrap=True)
    if budget:
        table.add_column("share of\nnoise", justify="right", no_wrap=True)
    for (row, known), label, share in zip(worst, labels, shares, strict=True):
        figures = (known.weight_db, known.output_db, known.both_db) if full else (known.weight_db,)
        table.add_row(
            Text(label),
            Text(_operator(row)),
            Text(words.significant(row.range)),
            Text(words.significant(row.average_precision, 2)),
            *(Text(words.figure(value)) for value in figures),
            *(() if stage else (Text(words.how_known(known)),)),
            *((Text("-" if share is None else words.percent(round(share, 3))),) if budget else ()),
        )
    yield indented(table, 2)
    output = "outputs together" if len(model.schemes[0].outputs) > 1 else "output"
    legend = f"dB: SQNR at the model's {output} if this weight alone is quantised. dw: depthwise"
    if full:
        legend += ". Result, both: if the layer's result alone is, and if both are"
    if spread := words.give_or_take(known for _, known in worst):
        legend += f". Forecast: {spread}"
    if any(known.floor_db is not None and known.weight_db is None for _, known in worst):
        legend += f". {words.NOT_MEASURED.capitalize()}: {words.CONTRADICTED}"
    if budget:
        legend += ". Share of noise: forecast, weight and result of the layer together, everything quantised"
    yield indented(Text(legend, "dim"), 2)


def _trials(model: ModelResult) -> Iterator[RenderableType]:
    if model.trials is None:
        return
    yield Text()
    yield Text(words.trials_heading(model.trials), "bold")
    for made in words.trial_tables(model.trials):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in made.header:
            table.add_column(Text(column), overflow="fold")
        for row in made.rows:
            table.add_row(*(Text(cell) for cell in row))
        yield indented(Text(made.title, "dim"), 2)
        yield indented(table, 2)
    for sentence in model.trials.sentences:
        yield indented(Text(f"· {words.shown(sentence)}"), 2)
    legend = "Mean ± standard deviation over the subsets: SQNR at the model's output, and top-1 agreement with float"
    yield indented(Text(legend, "dim"), 2)


def _operator(row: LayerRow) -> str:
    op_type = words.name(row.op_type, 12)
    return f"{op_type} dw" if row.depthwise else op_type
