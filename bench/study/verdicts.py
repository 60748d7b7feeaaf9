"""What the linter says of a trained network from its file alone, what running it shows, and the truth to score it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import Evidence
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import ModelResult

from .digits import Images
from .networks import INPUT


@dataclass(frozen=True, slots=True)
class Said:
    """The linter on one network and scheme.

    Attributes:
        forecast_db, measured_db: SQNR at the logits, from the file alone and on held-out images.
        forecast, measured: the verdicts.
        agreement: measured fraction of images whose class stays.
        confirmed, refuted: findings of the whole file after their claims were tested.
    """

    network: str
    scheme: str
    forecast_db: float | None
    forecast: str
    measured_db: float | None
    measured: str
    agreement: float | None
    confirmed: int
    refuted: int


def said(path: Path, network: str, calibration: Images, held_out: Images) -> list[Said]:
    """Lint the file statically, then with `calibration` for ranges and claims and `held_out` for the verdicts."""
    static, proven = _lint(path, None, 0), _lint(path, np.concatenate([calibration, held_out]), len(calibration))
    return [
        Said(
            network=network,
            scheme=before.scheme,
            forecast_db=before.output_sqnr_db,
            forecast=before.verdict.value if before.verdict else "",
            measured_db=after.output_sqnr_db,
            measured=after.verdict.value if after.verdict else "",
            agreement=after.agreement,
            confirmed=proven.count(Evidence.CONFIRMED),
            refuted=proven.count(Evidence.REFUTED),
        )
        for before, after in zip(static.schemes, proven.schemes, strict=True)
    ]


def _lint(path: Path, images: Images | None, samples: int) -> ModelResult:
    config = Config()
    data = None if images is None else DataRequest(ArraySource("digits", {INPUT: images}), samples)
    rules = config.build([entry.rule for entry in load_rules()])
    return lint(path, rules, config, CheckRequest(data))


def truth(path: Path, calibration: Images, test: Images) -> Mapping[str, Any]:
    """Measured damage in the form that bench/scorecard.py reads.

    SQNR at the logits over `test`, with one layer's folded weight in int8, one scale for the tensor, and with
    everything quantised, activations to the ranges of `calibration`.
    """
    facts = facts_of(read_model(path), DEFAULT_SCHEMES)
    observations = observe(facts, ArraySource("digits", {INPUT: calibration}), len(calibration))
    bench = workbench(facts).calibrated(observations)
    layers = {layer.output: Experiment.on_weight(INT8_PER_TENSOR, layer.output) for layer in facts.layers}
    schemes = {"per_tensor": Experiment(INT8_PER_TENSOR), "per_channel": Experiment(INT8_PER_CHANNEL)}
    variants = {
        experiment: partial(bench.executable, experiment) for experiment in (*layers.values(), *schemes.values())
    }
    errors = run_variants(bench.float_model, variants, partial(_one_batch, test))
    return {
        "model": path.name,
        "images": len(test),
        "layers": [
            {
                "output": layer.output,
                "node": layer.node.name,
                "op_type": layer.folded.layer.op_type,
                "group": layer.folded.layer.group,
                "depthwise": layer.depthwise,
                "weight_only_sqnr_db": errors[layers[layer.output]].sqnr_db,
            }
            for layer in facts.layers
        ],
        "end_to_end": {name: _figures(errors[experiment]) for name, experiment in schemes.items()},
    }


def write_truth(path: Path, figures: Mapping[str, Any]) -> None:
    """Write what `truth` gave."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _figures(error: OutputError) -> Mapping[str, Any]:
    return {"sqnr_db": error.sqnr_db, "agreement": error.agreement}


def _one_batch(images: Images) -> Iterator[Sample]:
    yield {INPUT: images}
