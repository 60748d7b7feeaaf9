"""Which tables an inspection has, and the sentences that every format made for people says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from onnxlint_q.report import layout, words
from onnxlint_q.report.layout import Cell, Heading, Line, Table, brief
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Inspection,
    Rounded,
    RoundedValues,
    Side,
    SideBySide,
    TensorSheet,
)
from onnxlint_q.workflow.reading.values import (
    NormRow,
    QparamsRow,
)


def headline(model: InspectedModel) -> str:
    """`float model, opset 13, 53 layers`."""
    return f"{words.visible(model.format)} model, opset {model.opset}, {words.count(model.layers, 'layer')}"


def origin(model: InspectedModel) -> str:
    """Which file it is: `1.9 MB, IR version 7, by tf2onnx 1.9`."""
    file = model.file
    said = (
        words.size(file.size) if file.size else "",
        f"IR version {file.ir_version}" if file.ir_version else "",
        f"by {words.name(file.producer, 80)}" if file.producer else "",
    )
    return ", ".join(filter(None, said))


def calibration(model: InspectedModel) -> str:
    """What the run was fed; empty where nothing ran."""
    return f"samples {words.calibration_words(model.calibration)}" if model.calibration is not None else ""


def is_whole(inspection: Inspection) -> bool:
    """Whether the files are told, and not one tensor or some values."""
    return not inspection.sheets and not inspection.rounded


def warnings(inspection: Inspection) -> tuple[str, ...]:
    """What the reader must know before any figure."""
    made_up = any(model.calibration is not None and model.calibration.synthetic for model in inspection.models)
    return ("The model ran on random values, not on data. Ranges on real inputs may differ a lot.",) if made_up else ()


def tables(model: InspectedModel, by: str, limit: int | None, *, every: bool) -> Iterator[Table]:
    """The tables of one file, of every pair or of those that matter: what samples showed, then what stands in it."""
    if model.activations:
        yield layout.activations(model.activations, limit, by, quantised=model.quantised)
    parts = layout.by_kind(pair for pair in model.qparams if every or _matters(pair, model))
    for place, (title, rows) in enumerate(parts):
        table = layout.qparams(rows, limit, by, title)
        yield table if place == len(parts) - 1 else replace(table, legend="")
    if model.weights:
        yield layout.weights(model.weights, limit, by)
    if model.norms:
        yield layout.norms(model.norms, limit, by)


def _matters(pair: QparamsRow, model: InspectedModel) -> bool:
    """Biases have 32 bits, so their scales say little; they are told where there is nothing else."""
    return pair.kind in layout.TOLD or not any(one.kind in layout.TOLD for one in model.qparams)


def left_out(model: InspectedModel) -> str:
    """How many pairs have no table unless every one is asked for."""
    hidden = sum(not _matters(pair, model) for pair in model.qparams)
    return f"{words.count(hidden, 'scale')} of biases and other constants: --verbose shows them." if hidden else ""


def sheet_tables(sheet: TensorSheet, model: InspectedModel, channels: int) -> Iterator[Table]:
    """What is told of one tensor, with so many outlier channels of a BatchNormalization."""
    if sheet.activations:
        yield layout.activations(sheet.activations, None, quantised=model.quantised)
    if sheet.qparams:
        yield layout.qparams(sheet.qparams, None)
    if sheet.weights:
        yield layout.weights(sheet.weights, None)
    if sheet.norms:
        yield layout.norms(sheet.norms, None)
        yield from (_channels(norm, channels) for norm in sheet.norms if norm.outliers)
    if sheet.channels:
        yield Table(
            title="Channels with the widest range",
            subject="channel",
            kind="",
            headings=(
                Heading("min", "smallest value"),
                Heading("max", "largest value"),
                Heading("range", "largest minus smallest value"),
            ),
            lines=tuple(
                Line(str(index), "", tuple(Cell(brief(value), f"{value:.6g}") for value in (low, high, high - low)))
                for index, low, high in sheet.channels
            ),
            hidden=0,
            legend="",
        )


def _channels(norm: NormRow, limit: int) -> Table:
    """The outlier gammas of one BatchNormalization."""
    return Table(
        title=f"Outlier channels of {words.name(norm.node or norm.output, 60)}",
        subject="channel",
        kind="varies",
        headings=(
            Heading("gamma", "as stored"),
            Heading("variance", "running variance"),
            Heading("gain", "gamma / sqrt(variance + epsilon)"),
            Heading("of the\nmedian", "gain over the median gain"),
        ),
        lines=tuple(
            Line(
                str(one.channel),
                "hardly" if one.still else "yes",
                tuple(Cell(brief(value), f"{value:.6g}") for value in (one.gamma, one.variance, one.gain, one.ratio)),
            )
            for one in norm.outliers[:limit]
        ),
        hidden=max(len(norm.outliers) - limit, 0),
        legend="Varies: whether the input of the channel does. If hardly, its small variance makes the gain large",
    )


def rounded_scale(done: RoundedValues) -> str:
    """`uint8, scale 2.531, zero point 24, range -61.2 to 584; from the file`."""
    return (
        f"{done.dtype}, scale {words.significant(done.scale, 6)}, zero point {done.zero_point}, range "
        f"{brief(done.low)} to {brief(done.high)}; from {done.origin}"
    )


def rounded_table(done: RoundedValues, model: InspectedModel) -> Table:
    """What each value becomes."""
    return Table(
        title=f"Values at {words.name(done.tensor, 60)} of {words.name(words.file_name(model.path), 40)}",
        subject="value",
        kind="",
        headings=(
            Heading("code", "the nearest code, halves to the even one"),
            Heading("becomes", "the value that the code stands for"),
            Heading("error", "what it becomes less what it was"),
            Heading("", "", numeric=False),
        ),
        lines=tuple(
            Line(
                f"{one.value:.6g}",
                "",
                (
                    Cell(f"{one.code:.6g}", f"{one.code:.6g}"),
                    Cell(words.significant(one.back, 5), f"{one.back:.6g}"),
                    Cell(words.significant(one.back - one.value, 3), f"{one.back - one.value:.6g}"),
                    Cell("saturated" if one.saturated else ""),
                ),
            )
            for one in done.values
        ),
        hidden=0,
        legend="",
    )


def rounded_sentences(done: RoundedValues) -> Iterator[str]:
    """Which values can no longer be told apart."""
    by_code: dict[float, list[Rounded]] = {}
    for one in done.values:
        by_code.setdefault(one.code, []).append(one)
    for code, same in by_code.items():
        distinct = [f"{value:.6g}" for value in dict.fromkeys(one.value for one in same)]
        if len(distinct) > 1:
            why = (
                "a value lies beyond the range"
                if any(one.saturated for one in same)
                else f"one step is {words.significant(done.scale, 4)}"
            )
            yield f"{', '.join(distinct[:-1])} and {distinct[-1]} become one code, {code:.6g}: {why}."


def side_tables(inspection: Inspection, side: SideBySide, limit: int | None) -> Iterator[Table]:
    """Both files beside each other, by depth and tensor by tensor."""
    first, second = (words.name(words.file_name(model.path), 24) for model in inspection.models)
    if first == second:
        first, second = f"1 {first}", f"2 {second}"
    figures = (
        Heading(f"{side.figure}\nfirst", f"{side.figure} in {first}"),
        Heading(f"{side.figure}\nsecond", f"{side.figure} in {second}"),
        Heading("second /\nfirst", "the second over the first"),
    )
    yield Table(
        title=f"By depth: worst {side.figure} of {side.of} in each part of the network",
        subject="depth",
        kind="",
        headings=(
            Heading(first, f"tensor of {first}", numeric=False, names=True),
            figures[0],
            Heading(second, f"tensor of {second}", numeric=False, names=True),
            figures[1],
            figures[2],
        ),
        lines=tuple(
            Line(
                pair.place,
                "",
                (*_side(pair.first), *_side(pair.second), _ratio(pair.ratio)),
            )
            for pair in side.depth
        ),
        hidden=0,
        legend="Depth: place among the tensors of a file, from the input on",
    )
    if side.named:
        shown = side.named[:limit]
        yield Table(
            title=f"Tensor by tensor, paired by {side.paired_by}: those that differ most",
            subject=f"tensor of {second}",
            kind="",
            headings=figures,
            lines=tuple(
                Line(pair.place, "", (_side(pair.first)[1], _side(pair.second)[1], _ratio(pair.ratio)))
                for pair in shown
            ),
            hidden=len(side.named) - len(shown),
            legend="",
        )


def no_pairs(side: SideBySide) -> str:
    """That no tensor of one file is known to be one of the other; empty where some are."""
    return "" if side.named else f"No {side.of} have the same name in both files, so none are paired."


def _side(side: Side | None) -> tuple[Cell, Cell]:
    if side is None:
        return Cell("-"), Cell("-")
    return Cell(side.tensor), Cell(brief(side.value), f"{side.value:.6g}")


def _ratio(ratio: float) -> Cell:
    return Cell("-") if math.isnan(ratio) else Cell(f"{brief(ratio, 3)}×", f"{ratio:.6g}")


def more(table: Table, *, verbose: bool) -> str:
    """How many rows are not shown, and where they are; empty where all are shown."""
    where = "the json report has all" if verbose else "--verbose shows all"
    return f"and {table.hidden} more; {where}" if table.hidden else ""


def empty(model: InspectedModel) -> str:
    """What to say of a file without a single row."""
    if model.activations or model.qparams or model.weights or model.norms:
        return ""
    return "Nothing to show: no layer with a constant weight, no scale, no BatchNormalization."
