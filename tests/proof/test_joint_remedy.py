"""Nodes that are left in float together: found, tried, and what they gain is what a file made by hand gains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, run, sqnr_db, versioned_text
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.placement import is_quantized
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.joint_remedy import FLOAT_SHARE, JointTrial, try_joint_remedy
from onnxlint_q.proof.whole import Whole

CALIBRATED, JUDGED = 8, 8
MASKED = """
attention (float[1, 16, 8] x) => (float[1, 16, 8] y) {
  a = MatMul(x, w)
  b = Add(a, mask)
  p = Softmax(b)
  c = MatMul(p, v)
  y = Add(c, x)
}"""


def masked() -> onnx.ModelProto:
    """Scores of which one is masked by so much that 8 bits leave one code for all others."""
    draw = np.random.default_rng(3)
    weights = {key: draw.normal(size=(8, 8)).astype(np.float32) for key in ("w", "v")}
    mask = np.zeros((1, 1, 8), np.float32)
    mask[..., -1] = -1e4
    proto = versioned_text(13, "", MASKED, mask=mask, **weights)
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    return proto


def source() -> ArraySource:
    draw = np.random.default_rng(4)
    return ArraySource("x", {"x": draw.normal(size=(CALIBRATED + JUDGED, 16, 8)).astype(np.float32)})


def prepared(proto: onnx.ModelProto) -> Workbench:
    measured = measure(as_model(proto), DEFAULT_SCHEMES)
    return workbench(measured).calibrated(observe(measured, source(), CALIBRATED))


def judge(error: OutputError) -> Verdict | None:
    return VerdictLevels().verdict(error.worst_db)


def tried(bench: Workbench, scheme: Scheme) -> JointTrial:
    take = partial(source().take, bench.measured.model.inputs)
    calibration, judged = partial(take, CALIBRATED), partial(take, JUDGED, CALIBRATED)
    before = run_experiments(bench, [Experiment(scheme)], judged)[Experiment(scheme)]
    costs = costs_of(bench, scheme, calibration)
    return try_joint_remedy(bench, scheme, before, costs, judge, (calibration, judged))


def costs_of(bench: Workbench, scheme: Scheme, samples: Samples) -> Errors:
    whole = Whole(run_experiments(bench, [Experiment(scheme)], samples))
    return measure_costs(bench, whole, [scheme], samples).errors


class Reader(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    def __init__(self, samples: Iterator[Any]) -> None:
        self.samples = samples

    def get_next(self) -> Any:
        return next(self.samples, None)


@pytest.mark.parametrize("scheme", DEFAULT_SCHEMES, ids=lambda scheme: scheme.name)
def test_what_it_gains_is_what_the_quantiser_makes_of_the_list(scheme: Scheme, tmp_path: Path) -> None:
    proto = masked()
    trial = tried(prepared(proto), scheme)
    assert trial.nodes == ("node_b", "node_p") and trial.helps and not trial.unnamed
    assert judge(trial.before) is not Verdict.SURVIVES and judge(trial.after) is Verdict.SURVIVES
    inputs = as_model(proto).inputs
    onnx.save(proto, tmp_path / "float.onnx")
    for nodes, told in (((), trial.before), (trial.nodes, trial.after)):
        quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            Reader(source().take(inputs, CALIBRATED)),
            per_channel=scheme.per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(nodes),
        )
        samples = list(source().take(inputs, JUDGED, CALIBRATED))
        exact, other = (
            np.concatenate([run(model, sample, exact=False)[0] for sample in samples])
            for model in (proto, tmp_path / "int8.onnx")
        )
        assert told.worst_db == pytest.approx(sqnr_db(exact, other), abs=0.5)


def test_nodes_without_a_name_are_counted_and_none_is_excluded() -> None:
    proto = masked()
    for node in proto.graph.node:
        node.name = ""
    trial = tried(prepared(proto), INT8_PER_TENSOR)
    assert not trial.nodes and not trial.helps and trial.unnamed and trial.after == trial.before


def test_only_a_part_of_a_network_is_left_in_float(models: Path) -> None:
    proto = onnx.load(models / "healthy_mobilenet.onnx")
    measured = measure(as_model(proto), DEFAULT_SCHEMES)
    (value,) = measured.model.inputs
    shape = (CALIBRATED + JUDGED, *(length or 1 for length in (value.type.shape or ())[1:]))
    data = ArraySource("x", {value.name: np.random.default_rng(5).normal(size=shape).astype(np.float32)})
    bench = workbench(measured).calibrated(observe(measured, data, CALIBRATED))
    samples = partial(data.take, measured.model.inputs, CALIBRATED)
    whole = Experiment(INT8_PER_CHANNEL)
    before = run_experiments(bench, [whole], samples)[whole]
    costs = costs_of(bench, INT8_PER_CHANNEL, samples)
    trial = try_joint_remedy(bench, INT8_PER_CHANNEL, before, costs, lambda _: Verdict.BREAKS, (samples, samples))
    excluded = [node for node in measured.model.nodes if node.name in trial.nodes and is_quantized(node)]
    layers = {layer.node for layer in measured.layers}
    assert 0 < len(layers.intersection(excluded)) <= FLOAT_SHARE * len(layers)
    assert len(excluded) <= FLOAT_SHARE * sum(map(is_quantized, measured.model.nodes))


def test_a_gain_that_nobody_needs_is_no_remedy() -> None:
    before, after = OutputError(10.0, None, True, 4), OutputError(10.9, None, True, 4)
    trial = JointTrial(INT8_PER_TENSOR, ("a",), before, after)
    assert not trial.helps
    assert replace(trial, after=replace(after, sqnr_db=11.0)).helps
    assert replace(trial, after=replace(after, sqnr_db=None)).helps
    assert not replace(trial, after=replace(after, sqnr_db=None, has_signal=False)).helps
