"""How well the static forecast ranks layers and predicts verdicts, against measured truth.

Usage: scorecard.py MODELS TRUTH [name ...]. MODELS is a folder of .onnx files, TRUTH a folder of .json files of the
same names with `layers` (`output`, `weight_only_sqnr_db`) and `end_to_end` (`per_tensor`, `per_channel`: `sqnr_db`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.forecast.forecast import Forecast, forecast
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.graph import read_model
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.workflow.sizes import settled

SCHEMES = (INT8_PER_TENSOR, INT8_PER_CHANNEL)
LOW_DB = 20.0


def ranks(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Ranks from 0, ties sharing their mean."""
    array = np.asarray(values)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return np.asarray((first + (counts - 1) / 2)[inverse], np.float64)


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side does not vary."""
    a, b = ranks(left), ranks(right)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def predictors(layer: LayerFacts, made: Forecast) -> dict[str, float | None]:
    """Ours, and what others use, for one layer."""
    name = INT8_PER_TENSOR.name
    return {
        "forecast": made.layers[layer.output].weight_sqnr_db,
        "avg_precision": layer.weight.average_precision,
        "tensor_sqnr": layer.weight.tensor_sqnr_db(name),
        "channel_sqnr": layer.weight.mean_channel_sqnr_db(name),
    }


def score(model_path: Path, truth: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    model, _ = settled(read_model(model_path), {}, None)
    file = measure(model, SCHEMES)
    layers = file.layers
    start = time.perf_counter()
    made = forecast(noise_model(file), layers, SCHEMES)
    row: dict[str, Any] = {"model": model_path.stem, "seconds": time.perf_counter() - start}
    measured = {entry["output"]: entry["weight_only_sqnr_db"] for entry in truth["layers"]}
    per_layer = {layer.output: predictors(layer, made[INT8_PER_TENSOR.name]) for layer in layers}
    common = [key for key in measured if key in per_layer and measured[key] is not None]
    for name in ("forecast", "avg_precision", "tensor_sqnr", "channel_sqnr"):
        usable = [k for k in common if per_layer[k][name] is not None]
        row[name] = spearman([per_layer[k][name] or 0.0 for k in usable], [measured[k] for k in usable])
    errors = [v - measured[k] for k in common if (v := per_layer[k]["forecast"]) is not None]
    row["layers"], row["matched"] = len(measured), len(errors)
    row["layer_error_db"] = float(np.median(errors)) if errors else float("nan")
    told = {key: made[INT8_PER_TENSOR.name].told(key) for key in common}
    row["told"] = [
        (figures.weight_sqnr_db, measured[key])
        for key, figures in told.items()
        if figures is not None and figures.weight_sqnr_db is not None
    ]
    levels = VerdictLevels()
    for scheme, key in ((INT8_PER_TENSOR, "per_tensor"), (INT8_PER_CHANNEL, "per_channel")):
        real = truth["end_to_end"][key]
        expected = made[scheme.name].level()
        predicted = None if expected is None else expected.sqnr_db
        chances = levels.chances_of(made[scheme.name].levels)
        row[key] = (
            predicted,
            real["sqnr_db"],
            "unknown" if chances is None else str(chances.likeliest),
            str(levels.verdict(real.get("sqnr_worst_db", real["sqnr_db"]), real.get("agreement"))),
        )
    row["unknown"] = made[INT8_PER_TENSOR.name].unknown
    return row


def spread(pairs: Sequence[Sequence[tuple[float, float]]]) -> str:
    """How far told figures of single layers are off, over networks: dB, and where two thirds are, by network."""
    errors = [np.array([said - was for said, was in own]) for own in pairs if own]
    if not errors:
        return "none"
    every = np.concatenate(errors)
    size = np.abs(every)
    order = np.argsort(size)
    weight = np.concatenate([np.full(own.size, 1 / own.size) for own in errors])[order].cumsum()
    thirds = float(size[order][np.searchsorted(weight, weight[-1] * 2 / 3)])
    low, high = np.quantile(every, (0.1, 0.9))
    return (
        f"{every.size:4} figures, median {np.median(every):.1f}, median size {np.median(size):.1f}, four fifths from "
        f"{low:.1f} to {high:.1f}, two thirds within {thirds:.1f} dB, each network counting the same"
    )


def main(models: Path, truths: Path, names: Sequence[str]) -> None:
    """Print the table."""
    rows = []
    for path in sorted(truths.glob("*.json")):
        if names and path.stem not in names:
            continue
        rows.append(score(models / f"{path.stem}.onnx", json.loads(path.read_text())))
    columns = ("forecast", "avg_precision", "tensor_sqnr", "channel_sqnr")
    print(f"{'model':28}" + "".join(f"{c:>14}" for c in columns) + "   matched  bias dB  seconds  unknown")
    for row in rows:
        print(
            f"{row['model']:28}"
            + "".join(f"{row[c]:14.2f}" for c in columns)
            + f"   {row['matched']:3}/{row['layers']:3}  {row['layer_error_db']:7.1f}  {row['seconds']:7.2f}"
            + f"  {' '.join(row['unknown'])}"
        )
    print(f"{'mean':28}" + "".join(f"{np.mean([r[c] for r in rows]):14.3f}" for c in columns))
    print("layers, as told            ", spread([row["told"] for row in rows]))
    low = [[(said, was) for said, was in row["told"] if was < LOW_DB] for row in rows]
    print(f"layers measured under {LOW_DB:g} dB", spread(low), end="\n\n")
    for key in ("per_tensor", "per_channel"):
        print(f"{key:28}{'predicted dB':>14}{'measured dB':>14}  predicted verdict / measured verdict")
        differences, right = [], 0
        for row in rows:
            predicted, real, said, was = row[key]
            if predicted is not None:
                differences.append(abs(predicted - real))
            right += said == was
            shown = f"{predicted:14.1f}" if predicted is not None else f"{'-':>14}"
            print(f"{row['model']:28}{shown}{real:14.1f}  {said:>9} / {was}")
        print(f"{'median |difference|':28}{np.median(differences):14.1f}")
        print(f"{'within':28}{np.quantile(differences, 2 / 3):14.1f}  two thirds of them")
        print(f"{'right':28}{right:14}  of {len(rows)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
