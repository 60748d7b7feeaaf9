"""The models of a run side by side: what to ship, findings, and the worst of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report import digest, tensors, words
from onnxlint_q.report.front import Decision, decisions
from onnxlint_q.report.full.drawing import SEVERITY_STYLE, VERDICT_STYLE, indented
from onnxlint_q.workflow.results import ModelResult, Run, SchemeResult, Verdict

LEAST_WORST = 20
"""Columns below which the worst of a model is not readable beside the rest of its row."""
AS_IT_IS = "as it is"
"""Heads the decisions on files that no scheme is judged on."""
_GAP = 2
_NONE = Text("-", "dim")


@dataclass(frozen=True, slots=True)
class _Row:
    """One model.

    Attributes:
        verdicts: with the decision, by scheme; of a file without schemes the decision on it as it is.
        worst: what is worst about it, in a few words.
    """

    name: str
    verdicts: dict[str, Text]
    findings: list[Text]
    worst: str


def summary(run: Run, width: int) -> Iterator[RenderableType]:
    """A row a model; where `width` is too small for a column a scheme, a line a scheme; else a paragraph a model."""
    folder, names = _named([model.path for model in run.models] + [failure.path for failure in run.failures])
    rows = [_row(name, model) for name, model in zip(names, run.models, strict=False)]
    rows += [_Row(name, {}, [Text("not linted", "bold red")], "") for name in names[len(run.models) :]]
    schemes = list(dict.fromkeys(scheme for row in rows for scheme in row.verdicts))
    yield Text()
    yield Text(f"Summary{f' of {words.name(folder, 200)}' if folder else ''}", "bold")
    apart = [[*(row.verdicts.get(scheme, _NONE) for scheme in schemes), Text(", ").join(row.findings)] for row in rows]
    stacked = [[Text("\n").join(_named_verdicts(row) or [_NONE]), Text("\n").join(row.findings)] for row in rows]
    for heads, cells in (([words.name(scheme, 40) for scheme in schemes], apart), (["verdict"], stacked)):
        if _needs(rows, heads, cells) <= width - _GAP:
            yield indented(_table(rows, heads, cells), _GAP)
            return
    for row in rows:
        yield indented(Text(row.name, "bold"), _GAP)
        for verdict in _named_verdicts(row):
            yield indented(verdict, 2 * _GAP)
        yield indented(Text("; ").join(filter(None, (Text(", ").join(row.findings), Text(row.worst)))), 2 * _GAP)


def _named(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all files lie in, empty for the working directory, and their names from there on."""
    folder = os.path.commonpath(list(map(os.path.dirname, paths))) if len(set(map(os.path.isabs, paths))) == 1 else ""
    return folder, [words.name(os.path.relpath(path, folder) if folder else path, 80) for path in paths]


def _row(name: str, model: ModelResult) -> _Row:
    decided = decisions(model)
    verdicts = {} if model.schemes else {AS_IT_IS: _decision(decided[0])}
    for result, one in zip(model.schemes, decided, strict=False):
        known = ", known" if result.scheme in model.accepted else ""
        verdicts[result.scheme] = _decision(one).append(f": {words.verdict(result.verdict)}{known}")
    counts = [
        Text(digest.amount(severity, total), SEVERITY_STYLE[severity])
        for severity, total in digest.tally(digest.faults(model.findings))
    ]
    if model.rule_crashed:
        counts.append(Text("a rule crashed", "bold red"))
    return _Row(name, verdicts, counts or [Text("no findings", "dim")], _worst(model))


def _decision(one: Decision) -> Text:
    return Text(f"{one.mark} {one.call}", VERDICT_STYLE[one.held])


def _worst(model: ModelResult) -> str:
    """The first finding, else what makes most noise under a scheme that fails, else why nothing is known."""
    groups = digest.group_by_damage(digest.counted(model.findings))
    if groups and groups[0].severity.rank > 0:
        first = groups[0].findings[0]
        more = f" and {len(groups[0].findings) - 1} more" if len(groups[0].findings) > 1 else ""
        return (
            f"{words.shown(first.code, 20)} {words.shown(first.name)} at {words.name(first.location.label, 40)}{more}"
        )
    lost = next((result for result in model.schemes if result.verdict is not Verdict.SURVIVES), None)
    if lost is None:
        return ""
    if lost.verdict is None:
        return words.shown(words.missing_sqnr(lost) or "", 120)
    return _most_noise(lost)


def _most_noise(result: SchemeResult) -> str:
    if not result.noise:
        return ""
    row = result.noise[0]
    return f"{tensors.share(row)} of the noise from {tensors.phrase(row)}"


def _named_verdicts(row: _Row) -> list[Text]:
    return [Text.assemble(f"{words.name(scheme, 40)} ", verdict) for scheme, verdict in row.verdicts.items()]


def _needs(rows: Sequence[_Row], heads: Sequence[str], cells: Sequence[Sequence[Text]]) -> int:
    """Columns that a table takes without a break within a cell, but for the last one, which wraps between words."""
    columns = [["model", *(row.name for row in rows)]]
    for at, head in enumerate((*heads, "findings")):
        columns.append([head, *(line for made in cells for line in made[at].plain.split("\n"))])
    worst = max((len(word) for row in rows for word in row.worst.split()), default=0)
    last = max(LEAST_WORST, worst) if worst else 0
    return sum(max(map(len, column)) + _GAP for column in columns) + last


def _table(rows: Sequence[_Row], heads: Sequence[str], cells: Sequence[Sequence[Text]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for head in ("model", *heads, "findings"):
        table.add_column(Text(head), no_wrap=True)
    if any(row.worst for row in rows):
        table.add_column("worst", ratio=1)
    for row, made in zip(rows, cells, strict=True):
        table.add_row(Text(row.name, "bold"), *made, *([Text(row.worst)] if len(table.columns) > len(made) + 1 else []))
    return table
