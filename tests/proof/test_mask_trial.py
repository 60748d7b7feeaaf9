"""Smaller masks tried: float outputs beside the model's, and everything quantised."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from mask_cases import WAYS, network, samples
from onnx_cases import Array, as_model

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import split
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.proof.masks import MaskTrial, try_masks
from onnxlint_q.proof.whole import measure_schemes

FINE = SCHEMES["int16-activations"]


def tried(proto: onnx.ModelProto, data: dict[str, Array]) -> tuple[dict[str, float | None], MaskTrial]:
    """SQNR of the worst output by scheme with the masks as they are, and the trial."""
    facts, source = facts_of(as_model(proto), (INT8_PER_TENSOR, FINE)), ArraySource("s", data)
    divided = split(source, facts.model.inputs, 12)
    bench = workbench(facts).calibrated(observe(facts, source, divided.calibrating))
    assert facts.unmasked is not None
    whole = measure_schemes(bench, divided)
    left = {one.scheme.name: error.worst_db for one, error in whole.errors.items()}
    return left, try_masks(bench, tuple(facts.unmasked.candidates.values()), divided)


@pytest.mark.parametrize("way", ["computed", "replaced", "infinite", "stored", "scaled"])
def test_a_smaller_mask_brings_back_what_a_large_one_costs(way: str) -> None:
    steps, constants = WAYS[way]
    left, trial = tried(network(steps, **constants), samples())
    assert trial.whole is not None and trial.exact is not None and not trial.refused
    assert trial.exact.worst_db is None or trial.exact.worst_db > 80
    for scheme in (INT8_PER_TENSOR, FINE):
        before, after = left[scheme.name], trial.whole.errors[Experiment(scheme)].worst_db
        # More bits do not help against such a mask.
        assert before is not None and before < 10 and after is not None and after > 20


def test_what_changes_the_float_outputs_is_not_gone_on_with() -> None:
    """Of a sentence without any word all scores are masked: all alike before, told apart after."""
    data = samples()
    data["keep"][13] = 0
    steps, constants = WAYS["computed"]
    _, trial = tried(network(steps, **constants), data)
    assert trial.whole is None and trial.exact is not None and (trial.exact.worst_db or 0) < 80
    assert dict(trial.values) != {}


def test_scores_without_end_are_refused_without_a_run() -> None:
    data = samples()
    data["hidden"] = np.asarray(data["hidden"] * 1e3, np.float32)
    steps, constants = WAYS["computed"]
    _, trial = tried(network(steps, **constants), data)
    assert trial.exact is None and trial.whole is None and "spread" in trial.refused["c"]
