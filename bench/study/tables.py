"""The tables of the study, as Markdown to read and CSV to work with."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .networks import NETWORKS
from .ranges import LayerRanges
from .trials import LayerTrial, OutputTrial
from .verdicts import Said

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# The layers that the article follows, in the networks here that have their like.
FOLLOWED = (("resnet", "b1.conv1"), ("mbconv", "b2.dw"), ("mbconv", "b2.expand"), ("inverted_residual", "b2.dw"))


def write_csv(path: Path, rows: Sequence[DataclassInstance]) -> None:
    """One line a row; floats with five significant digits, empty where there is no value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([entry.name for entry in fields(rows[0])])
        for row in rows:
            writer.writerow([f"{v:.5g}" if isinstance(v, float) else v for v in asdict(row).values()])


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Mean and sample standard deviation."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{show(float(np.mean(values)))} ± {show(deviation)}"


def accuracy_table(trials: Sequence[OutputTrial], scheme: str, weights: str) -> str:
    """The columns of the paper's Table 1 under one scheme; `weights` is its format of them, for the heading."""
    rows = []
    for network in NETWORKS:
        mine = [trial for trial in trials if (trial.network, trial.scheme) == (network.name, scheme)]
        if mine:
            rows.append([network.title, *_accuracy_cells(mine)])
    header = ("Network", "Float acc (%)", f"{weights} acc (%)", "QMSE", "QCE", "QKL", "Accuracy decrease (%)")
    return markdown(header, rows)


def family_table(trials: Sequence[OutputTrial], scheme: str) -> str:
    """The same errors, each a mean over the networks of a family, with the least and the most damaged of them."""
    rows = []
    for family in dict.fromkeys(network.family for network in NETWORKS):
        names = [network.name for network in NETWORKS if network.family == family]
        means = [_means([t for t in trials if (t.network, t.scheme) == (name, scheme)]) for name in names]
        known = np.asarray([mean for mean in means if mean])
        if len(known):
            low, high, mean = known.min(axis=0), known.max(axis=0), known.mean(axis=0)
            ends = [f" ({a:.2g} … {b:.2g})" if len(known) > 1 else "" for a, b in zip(low, high, strict=True)]
            rows.append([family, *(f"{value:.2g}{end}" for value, end in zip(mean, ends, strict=True))])
    return markdown(("Family", "QMSE", "QCE", "QKL", "Accuracy decrease (%)"), rows)


def range_table(rows: Sequence[LayerRanges]) -> str:
    """The followed layers, epoch by epoch: activations before and after BatchNormalization, then weights and gains."""
    epochs = sorted({row.epoch for row in rows})
    found = {(row.network, row.layer, row.epoch): row for row in rows}
    columns: tuple[tuple[str, Callable[[LayerRanges], float | None]], ...] = (
        ("convolution's result", lambda row: row.output),
        ("after BatchNormalization", lambda row: row.normalised),
        ("weight", lambda row: row.weight),
        ("largest gamma / sqrt(var + eps)", lambda row: row.gain_high),
        ("folded weight", lambda row: row.folded),
    )
    lines = []
    for network, layer in FOLLOWED:
        if (network, layer, epochs[-1]) not in found:
            continue
        for what, pick in columns:
            cells = [figure(pick(found[network, layer, epoch])) for epoch in epochs]
            lines.append([f"{network} {layer}: {what}", *cells])
    return markdown(("Range of", *(f"epoch {epoch}" for epoch in epochs)), lines)


def kind_table(rows: Sequence[LayerRanges]) -> str:
    """Finished networks by family and kind of layer: medians, and how often BatchNormalization widens the range."""
    last = max(row.epoch for row in rows)
    family = {network.name: network.family for network in NETWORKS}
    groups: dict[tuple[str, str], list[LayerRanges]] = {}
    for row in rows:
        if row.epoch == last and row.normalised is not None:
            groups.setdefault((family[row.network], row.kind), []).append(row)
    lines = []
    for (name, kind), mine in groups.items():
        ratios = [(row.normalised or 0.0) / row.output for row in mine if row.output > 0]
        lines.append(
            [
                f"{name}, {kind}",
                str(len(mine)),
                figure(float(np.median([row.folded for row in mine]))),
                figure(float(np.median([row.average_precision for row in mine]))),
                figure(float(np.median([(row.gain_high or 0.0) / (row.gain_low or 1.0) for row in mine]))),
                figure(float(np.median(ratios))),
                f"{np.mean(np.asarray(ratios) > 1):.0%}",
            ]
        )
    header = (
        "Layers",
        "how many",
        "folded range",
        "average precision",
        "largest / smallest gain",
        "range after / before BN",
        "widened by BN",
    )
    return markdown(header, lines)


def verdict_table(rows: Sequence[Said]) -> str:
    """Forecast from the file alone beside what was measured."""
    titles = {network.name: network.title for network in NETWORKS}
    header = (
        "Network",
        "scheme",
        "forecast (dB)",
        "measured (dB)",
        "forecast",
        "measured",
        "agreement",
        "findings confirmed / refuted",
    )
    return markdown(
        header,
        (
            [
                titles[row.network],
                row.scheme,
                figure(row.forecast_db),
                figure(row.measured_db),
                row.forecast,
                row.measured,
                "" if row.agreement is None else f"{row.agreement:.1%}",
                f"{row.confirmed} / {row.refuted}",
            ]
            for row in rows
        ),
    )


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """Error of one layer's activation, mean and sample standard deviation (`..._sd`) over the trials."""

    network: str
    depth: int
    layer: str
    kind: str
    tensor: str
    qmse: float
    qmse_sd: float
    qce: float
    qce_sd: float
    qkl: float
    qkl_sd: float
    sqnr_db: float
    sqnr_db_sd: float


def layer_summaries(trials: Sequence[LayerTrial]) -> list[LayerSummary]:
    """All trials of a layer in one row; NaN where a metric does not exist."""
    groups: dict[tuple[str, int], list[LayerTrial]] = {}
    for trial in trials:
        groups.setdefault((trial.network, trial.depth), []).append(trial)
    rows = []
    for (network, depth), mine in groups.items():
        values = np.asarray([[t.qmse, t.qce, t.qkl, t.sqnr_db] for t in mine], np.float64)
        mean = values.mean(axis=0)
        deviation = values.std(axis=0, ddof=1) if len(mine) > 1 else np.zeros(4)
        figures = [float(value) for pair in zip(mean, deviation, strict=True) for value in pair]
        rows.append(LayerSummary(network, depth, mine[0].layer, mine[0].kind, mine[0].tensor, *figures))
    return rows


def figure(value: float | None) -> str:
    """Three significant digits; nothing for None."""
    return "" if value is None else f"{value:.3g}"


def _accuracy_cells(mine: Sequence[OutputTrial]) -> list[str]:
    return [
        f"{mine[0].float_accuracy:.2%}".rstrip("%"),
        spread([trial.int8_accuracy for trial in mine], lambda value: f"{100 * value:.2f}"),
        spread([trial.qmse for trial in mine], lambda value: f"{value:.2g}"),
        spread([trial.qce for trial in mine], lambda value: f"{value:.3g}"),
        spread([trial.qkl for trial in mine], lambda value: f"{value:.2g}"),
        spread([trial.decrease for trial in mine], lambda value: f"{100 * value:.2f}"),
    ]


def _means(mine: Sequence[OutputTrial]) -> list[float]:
    rows = [[trial.qmse, trial.qce, trial.qkl, 100 * trial.decrease] for trial in mine]
    return [float(value) for value in np.mean(rows, axis=0)] if rows else []
