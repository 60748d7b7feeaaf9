"""The tables of a model: the tensors and the layers that cost most, and calibrations on other samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report import tensors, words
from onnxlint_q.report.full.drawing import indented
from onnxlint_q.report.layers import noise_share, worst_layers
from onnxlint_q.workflow.results import Basis, LayerRow, LayerSqnr, ModelResult, SchemeResult

WORST = 10
"""Rows of a table."""


def tables(model: ModelResult) -> Iterator[RenderableType]:
    """All that there is something in."""
    lost = [result for result in model.schemes if tensors.explains(result)]
    for result in lost:
        yield from _costly_tensors(result)
    ran = any(result.tensors_basis is Basis.MEASURED for result in lost)
    if not ran or any(row.measured and _has_both(row.measured.values()) for row in model.layers):
        yield from _worst_layers(model)
    yield from _trials(model)


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
    parts = [words.operands(known) for _, known in worst]
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
    for (row, known), label, part, share in zip(worst, labels, parts, shares, strict=True):
        figures = (known.weight_db, known.output_db, known.both_db) if full else (known.weight_db,)
        table.add_row(
            Text(f"{label}\n  {part}" if part else label),
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
    if any(parts):
        legend += ". W, R: if this weight of a recurrent layer alone is"
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
