"""What a probe costs, and how near its figures are to measured truth.

    python bench/probe.py MODELS TRUTH [--only NAME ...] [--json FILE]

MODELS is a folder of .onnx files, TRUTH a folder of .json files of the same names with `layers` (`output`,
`weight_only_sqnr_db`) and `end_to_end` (`per_tensor`, `per_channel`: `sqnr_db`, `agreement`); a model without truth has
its cost alone. Each model is probed in a process of its own. Prints for each the seconds, wall and of all processors,
of the probe alone, the memory that the process had at most, how many layers were reached, their Spearman rank
correlation with truth, and for each scheme the SQNR at the output and the verdict beside those of truth.

The wall clock says little on a machine with other work; compare processor seconds, or run both versions in turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scorecard import spearman

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.execute.limits import USUAL
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, foresee
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.proof.probing.probe import Probe, probe
from onnxlint_q.proof.sensitivity import layer_sqnr
from onnxlint_q.workflow.assembly.outputs import result_of_probe
from onnxlint_q.workflow.sizes import settled

SCHEMES = {"per_tensor": INT8_PER_TENSOR, "per_channel": INT8_PER_CHANNEL}
# What the truth writes for a perfect match.
_PERFECT_DB = 140.0
_MEGABYTE = 1 << 20


def probed(path: Path, truth: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one model."""
    model, _ = settled(read_model(path), {}, None, USUAL)
    facts = foresee(measure(model, tuple(SCHEMES.values())))
    row: dict[str, Any] = {"model": path.stem}
    if not facts.is_float:
        return {**row, "skipped": "it is quantised already"}
    bench = workbench(facts)
    start, before = time.monotonic(), time.process_time()
    found = probe(bench)
    row |= {"seconds": time.monotonic() - start, "cpu": time.process_time() - before}
    # Kilobytes, but for a Mac, which counts bytes.
    scale = 1 if sys.platform == "darwin" else 1024
    row["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / _MEGABYTE
    return {
        **row,
        "samples": found.samples,
        "notes": found.notes,
        **_layers(facts, found, truth),
        **_schemes(facts, found, truth),
    }


def _layers(facts: Facts, found: Probe, truth: Mapping[str, Any]) -> dict[str, Any]:
    rows = {layer.output: layer_sqnr(facts, INT8_PER_TENSOR, layer, found.errors) for layer in facts.layers}
    figures = {key: row.weight_sqnr_db for key, row in rows.items() if row and row.weight_sqnr_db is not None}
    known = {entry["output"]: entry["weight_only_sqnr_db"] for entry in truth.get("layers", ())}
    common = [key for key, value in known.items() if value is not None and key in figures]
    said = [min(figures[key], _PERFECT_DB) for key in common]
    return {
        "layers": [len(figures), len(rows)],
        "matched": [len(common), len(known)],
        "rank": spearman(said, [known[key] for key in common]) if len(common) > 1 else None,
        "figures": figures,
    }


def _schemes(facts: Facts, found: Probe, truth: Mapping[str, Any]) -> dict[str, Any]:
    levels, row = VerdictLevels(), dict[str, Any]()
    for key, scheme in SCHEMES.items():
        error, traits = found.errors.get(Experiment(scheme)), facts.forecasts[scheme.name].traits
        said = result_of_probe(scheme.name, error, levels, traits) if error is not None else None
        real = truth.get("end_to_end", {}).get(key)
        db = real.get("sqnr_worst_db", real["sqnr_db"]) if real else None
        row[key] = {
            "probe": error.worst_db if error is not None and error.has_signal else None,
            "truth": db,
            "verdict": str(said.verdict) if said is not None and said.verdict else None,
            "right": str(levels.verdict(db, real.get("agreement"))) if real else None,
        }
    return row


def _apart(models: Path, truths: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(models), str(truths), "--only", name, "--here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"model": name, "skipped": (done.stderr.strip().splitlines() or ["it ended"])[-1][:100]}
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def _shown(row: Mapping[str, Any]) -> str:
    if "skipped" in row:
        return f"{row['model']:26} {row['skipped']}"
    rank = f"{row['rank']:6.3f}" if row["rank"] is not None else f"{'-':>6}"
    cells = [
        f"{row['model']:26} {row['seconds']:7.2f} {row['cpu']:7.2f} {row['megabytes']:6.0f}",
        f"{row['samples']:3} {row['layers'][0]:4}/{row['layers'][1]:<4} {rank}",
    ]
    for key in SCHEMES:
        one = row[key]
        pair = "/".join(f"{one[side]:.1f}" if one[side] is not None else "-" for side in ("probe", "truth"))
        mark = "" if one["right"] is None else "ok" if one["verdict"] == one["right"] else "wrong"
        cells.append(f"{pair:>13} {one['verdict'] or '-':9} {mark:5}")
    return " ".join([*cells, "; ".join(row["notes"])[:60]])


def _summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    ranks = [row["rank"] for row in rows if row.get("rank") is not None]
    if ranks:
        yield f"mean Spearman {np.mean(ranks):.3f} over {len(ranks)}, lowest {min(ranks):.3f}"
    pairs = [row[key] for row in rows for key in SCHEMES if row.get(key, {}).get("right")]
    if pairs:
        off = [abs(one["probe"] - one["truth"]) for one in pairs if one["probe"] is not None]
        right = sum(one["verdict"] == one["right"] for one in pairs)
        yield f"verdicts right {right} of {len(pairs)}; median |difference| {np.median(off or [np.nan]):.1f} dB"
    yield f"processor seconds {sum(row.get('cpu', 0) for row in rows):.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--here", action="store_true", help="one model, in this process, as JSON")
    given = parser.parse_args()
    if given.here:
        (name,) = given.only
        truth = given.truth / f"{name}.json"
        known = json.loads(truth.read_text()) if truth.exists() else {}
        print(json.dumps(probed(given.models / f"{name}.onnx", known)))
        return
    names = given.only or sorted(path.stem for path in given.models.glob("*.onnx"))
    costs = f"{'model':26} {'wall s':>7} {'cpu s':>7} {'MB':>6}"
    print(f"{costs}   n    layers   rank    per tensor dB          per channel dB")
    rows = []
    for name in names:
        rows.append(_apart(given.models, given.truth, name))
        print(_shown(rows[-1]), flush=True)
    print("\n".join(_summary(rows)))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
