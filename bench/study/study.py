"""All measurements of the trained networks, and the files they become."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import tables
from .figures import Line, Panel, draw
from .networks import Network
from .ranges import LayerRanges, layer_ranges
from .store import Store
from .tables import LayerSummary
from .trials import LayerTrial, OutputTrial, quantised_trials
from .verdicts import Said, said, truth, write_truth

# Images that the activation ranges of a checkpoint are taken on.
LOGGED = 64
# Test images that the linter's own verdicts are measured on.
HELD_OUT = 200


@dataclass
class Measured:
    """Everything that was measured, row by row."""

    ranges: list[LayerRanges] = field(default_factory=list)
    outputs: list[OutputTrial] = field(default_factory=list)
    layers: list[LayerSummary] = field(default_factory=list)
    verdicts: list[Said] = field(default_factory=list)


def measure_all(networks: Sequence[Network], store: Store, results: Path, trials: int, size: int) -> None:
    """Measure `networks` and write tables and figures to `results`, truth to the store.

    Every network is quantised `trials` times, with the ranges of `size` training images each.
    """
    digits, found = store.digits(), Measured()
    for network in networks:
        name, path = network.name, store.model(network.name)
        for epoch, file in store.checkpoints(name).items():
            found.ranges += layer_ranges(file, name, epoch, digits.train[:LOGGED])
        rows = list(quantised_trials(path, name, digits, trials, size))
        found.outputs += [row for row in rows if isinstance(row, OutputTrial)]
        found.layers += tables.layer_summaries([row for row in rows if isinstance(row, LayerTrial)])
        calibration = digits.calibration(0, size)
        found.verdicts += said(path, name, calibration, digits.test[:HELD_OUT])
        write_truth(store.truth(name), truth(path, calibration, digits.test))
        print(f"{name}: measured", flush=True)
    results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(store.log, results / store.log.name)
    _write_tables(found, results)
    _write_figures(networks, found, results)


def _write_tables(found: Measured, results: Path) -> None:
    tables.write_csv(results / "accuracy.csv", found.outputs)
    tables.write_csv(results / "ranges.csv", found.ranges)
    tables.write_csv(results / "layers.csv", found.layers)
    tables.write_csv(results / "verdicts.csv", found.verdicts)
    accuracy = "".join(
        f"## {weights} weights, one scale a {share}\n\n{tables.accuracy_table(found.outputs, scheme, weights)}\n"
        f"{tables.family_table(found.outputs, scheme)}\n"
        for weights, share, scheme in (
            ("INT8", "tensor", "int8-per-tensor"),
            ("INT8", "channel", "int8-per-channel"),
            ("INT4", "channel", "int4-weights"),
        )
    )
    _write(
        results / "accuracy.md",
        "# Float against quantised\n\nMean and standard deviation over the trials; activations uint8.\n\n" + accuracy,
    )
    _write(
        results / "ranges.md",
        f"# Ranges\n\n## Epoch by epoch\n\n{tables.range_table(found.ranges)}\n"
        f"## Finished networks\n\n{tables.kind_table(found.ranges)}",
    )
    _write(results / "verdicts.md", f"# What the linter says\n\n{tables.verdict_table(found.verdicts)}")


def _write_figures(networks: Sequence[Network], found: Measured, results: Path) -> None:
    families = {network.family: [n for n in networks if n.family == network.family] for network in networks}
    three = {family: members for family, members in families.items() if len(members) > 1} or families
    last = max(row.epoch for row in found.ranges)
    finished = [row for row in found.ranges if row.epoch == last]
    weights = [
        Panel(
            f"{family}: {title}",
            "layer",
            [
                _line_of(network, [(row.depth, pick(row)) for row in finished if row.network == network.name])
                for network in members
            ],
            log,
        )
        for title, pick, log in _WEIGHT_PANELS
        for family, members in three.items()
    ]
    _write(results / "weights.svg", draw(weights, len(three)))
    errors = [
        Panel(
            f"{family}: {title}",
            "layer",
            [_error_line(network, found.layers, what) for network in members],
            log,
        )
        for what, title, log in _ERROR_PANELS
        for family, members in three.items()
    ]
    _write(results / "errors.svg", draw(errors, len(three)))
    followed = [pair for pair in tables.FOLLOWED if any(n.name == pair[0] for n in networks)]
    if followed:
        _write(results / "training.svg", draw([_training_panel(found, *pair) for pair in followed], 2))


_WEIGHT_PANELS: tuple[tuple[str, Callable[[LayerRanges], float], bool], ...] = (
    ("range of folded weight", lambda row: row.folded, True),
    ("average precision", lambda row: row.average_precision, False),
)
_ERROR_PANELS = (("qmse", "QMSE", True), ("qce", "QCE", False), ("qkl", "QKL", True), ("sqnr_db", "SQNR (dB)", False))


def _short(network: Network) -> str:
    """What sets a network apart within its family."""
    return network.title.removeprefix(network.family).lstrip(", ") or network.family


def _line_of(network: Network, points: Sequence[tuple[int, float]]) -> Line:
    return Line(_short(network), [x for x, _ in points], [y for _, y in points])


def _error_line(network: Network, layers: Sequence[LayerSummary], what: str) -> Line:
    rows = [row for row in layers if row.network == network.name and np.isfinite(getattr(row, what))]
    values, deviations = ([float(getattr(row, key)) for row in rows] for key in (what, f"{what}_sd"))
    return Line(_short(network), [row.depth for row in rows], values, deviations)


def _training_panel(found: Measured, network: str, layer: str) -> Panel:
    rows = [row for row in found.ranges if (row.network, row.layer) == (network, layer)]
    epochs = [row.epoch for row in rows]
    lines = [
        Line("convolution's result", epochs, [row.output for row in rows]),
        Line("after BatchNormalization", epochs, [row.normalised or 0.0 for row in rows]),
        Line("weight", epochs, [row.weight for row in rows], dashed=True),
        Line("largest gain", epochs, [row.gain_high or 0.0 for row in rows], dashed=True),
        Line("folded weight", epochs, [row.folded for row in rows], dashed=True),
    ]
    return Panel(f"{network} {layer}: ranges", "epoch", lines)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
