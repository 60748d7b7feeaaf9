"""Measured verdicts against independent measurements of the same networks, output by output.

    python bench/truth/truth_verdicts.py MODELS TRUTH IMAGES INPUTS [--only NAME ...]

TRUTH holds one JSON file a model with `end_to_end`: for each scheme `sqnr_db`, `sqnr_worst_db`, and `agreement` where
an output holds class scores. A model with `INPUTS/NAME.npz` runs on those arrays: ranges from the last 48 samples, the
verdict on those before. Any other takes pictures, the first 96 by name for the verdict (24 where the input is over 400
pixels high) and the 48 behind them for the ranges. Prints both verdicts and figures for each scheme, and where they
differ whether the interval of our agreement holds the level between them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from truth_table import HOW, pictures

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import run_experiments
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import Value, read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.workflow.assembly.outputs import result_of_run
from onnxlint_q.workflow.results import Basis

CALIBRATED = 48


class Pictures(Source):
    """Some of the images, prepared as for the truth."""

    def __init__(self, images: Path, name: str, count: int, skip: int) -> None:
        self.name = name
        self._taken = partial(pictures, images, HOW.get(name, preset("imagenet")), count=count, skip=skip)
        self._count = count

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int:
        return self._count

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        return self._taken(inputs)


def sources(facts: Facts, name: str, images: Path, inputs: Path) -> tuple[Source, Source]:
    """What ranges are taken from, and what the verdict is measured on."""
    path = inputs / f"{name}.npz"
    if path.exists():
        with np.load(path) as arrays:
            held = dict(arrays)
        last = {key: values[-CALIBRATED:] for key, values in held.items()}
        return ArraySource(name, last), ArraySource(name, {key: v[:-CALIBRATED] for key, v in held.items()})
    height = (facts.model.inputs[0].type.shape or (1, 3, 224, 224))[2] or 224
    count = 24 if height > 400 else 96
    return Pictures(images, name, CALIBRATED, count), Pictures(images, name, count, 0)


def main() -> None:
    """Print one line a model and scheme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("models", "truths", "images", "inputs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--only", nargs="+", help="models to measure instead of all")
    chosen = parser.parse_args()
    levels = VerdictLevels()
    print(f"{'model':<28} {'scheme':<17} {'measured':<34} {'truth':<34} same")
    for truth in sorted(chosen.truths.glob("*.json")):
        if chosen.only is not None and truth.stem not in chosen.only:
            continue
        said = json.loads(truth.read_text())["end_to_end"]
        facts = facts_of(read_model(chosen.models / f"{truth.stem}.onnx"), DEFAULT_SCHEMES)
        with_arrays = (chosen.inputs / f"{truth.stem}.npz").exists()
        if not with_arrays and (len(facts.model.inputs) != 1 or not is_image(facts.model.inputs[0].type.shape)):
            print(f"{truth.stem:<28} reads anything but one image")
            continue
        ranges, verdict = sources(facts, truth.stem, chosen.images, chosen.inputs)
        bench = workbench(facts)
        bench = bench.calibrated(observe(facts, ranges, CALIBRATED))
        whole = [Experiment(scheme) for scheme in DEFAULT_SCHEMES if bench.can_run(Experiment(scheme))]
        found = run_experiments(bench, whole, partial(verdict.samples, facts.model.inputs))
        for experiment, error in found.items():
            scheme = experiment.scheme.name
            ours = result_of_run(scheme, error, Basis.MEASURED, levels, by_class=True)
            theirs = said[scheme.removeprefix("int8-").replace("-", "_")]
            worst = theirs.get("sqnr_worst_db", theirs["sqnr_db"])
            expected = levels.verdict(worst, theirs.get("agreement"))
            one = told(str(ours.verdict), error.worst_db, ours.agreement)
            other = told(str(expected), worst, theirs.get("agreement"))
            open_level = ours.interval is not None and bool(levels.crossed(*ours.interval))
            same = "yes" if ours.verdict is expected else "no, the interval holds the level" if open_level else "NO"
            print(f"{truth.stem:<28} {scheme:<17} {one:<34} {other:<34} {same}", flush=True)


def told(verdict: str, worst_db: float | None, agreement: float | None) -> str:
    """`breaks, 3.6 dB, 49 %`."""
    level = "exact" if worst_db is None else f"{worst_db:.1f} dB"
    return f"{verdict}, {level}" + ("" if agreement is None else f", {agreement:.1%}")


if __name__ == "__main__":
    main()
