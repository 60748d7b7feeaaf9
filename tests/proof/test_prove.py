"""Variants and claims, held against ONNX Runtime and against the arithmetic written out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import ties
from onnx_cases import as_model, onnx_text, run, sqnr_db
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.preprocess import quant_pre_process

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.outputs.output_kind import Holds, Output
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR, SCHEMES, Scheme
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.executable import as_stored, folded
from onnxlint_q.execute.limits import Limits
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputErrorAccumulator, Reference
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.prove import Proof, prove
from onnxlint_q.proof.whole import Whole, measure_schemes

SCHEME_LIST = DEFAULT_SCHEMES
SCORES = (Output("y", Holds.CLASS_SCORES),)
VALUES = (Output("y"),)
FLOAT_MODELS = (
    "healthy_resnet healthy_mobilenet depthwise_spread near_zero_variance outlier_gamma collapsed_channels heavy_tail "
    "unfolded_bn silu_gate dynamic_shape opset11 unnamed_nodes subgraph_if local_function external_data "
    "constant_weights"
).split()


def facts_at(path: Path) -> Facts:
    return facts_of(read_model(path), SCHEME_LIST)


def claim(tensor: str, scheme: str = "int8-per-tensor", subject: Subject = Subject.WEIGHT) -> Finding:
    wanted = Claim(subject, tensor, scheme, 20.0)
    return Finding("QW001", "x", Severity.WARNING, Confidence.HIGH, "m", Location(output=tensor), claim=wanted)


def proven(facts: Facts, seen: Observations, findings: Sequence[Finding], source: Source) -> Proof:
    bench = workbench(facts).calibrated(seen)
    return prove(bench, findings, partial(source.take, facts.model.inputs, seen.samples))


def whole(facts: Facts, seen: Observations, source: Source, count: int) -> Whole:
    """All samples behind those of `seen` are held out, at most `count`; none may be left."""
    inputs = facts.model.inputs
    available = source.available(inputs)
    held_out = count if available is None else min(count, available - seen.samples)
    return measure_schemes(workbench(facts).calibrated(seen), Split(source, inputs, seen.samples, held_out))


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_the_folded_model_computes_what_the_file_does(models: Path, calibration: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    facts = facts_at(path)
    feeds = {facts.model.inputs[0].name: np.load(calibration)["images"][:1]}
    expected = run(path, feeds)
    got = Session(folded(facts)).run(feeds)
    for reference, value in zip(expected, got, strict=True):
        assert np.allclose(reference, value, rtol=1e-3, atol=1e-4 * np.abs(reference).max())


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, images: np.ndarray) -> None:
        self.samples = iter([{"images": image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


@pytest.mark.parametrize("name", ["healthy_mobilenet", "depthwise_spread", "healthy_resnet", "silu_gate"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_end_to_end_figures_are_those_of_onnxruntime_quantize_static(
    models: Path, calibration: Path, tmp_path: Path, name: str, per_channel: bool
) -> None:
    facts = facts_at(models / f"{name}.onnx")
    images = np.load(calibration)["images"]
    source = ArraySource("images", {"images": images[:16]})
    mine = whole(facts, observe(facts, source, 16), source, 16).errors
    scheme = INT8_PER_CHANNEL if per_channel else INT8_PER_TENSOR

    plain = tmp_path / "folded.onnx"
    quant_pre_process(models / f"{name}.onnx", plain, skip_symbolic_shape=True)
    quantize_static(
        plain,
        tmp_path / "q.onnx",
        _Reader(images[:16]),
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"WeightSymmetric": True},
    )
    errors = OutputErrorAccumulator()
    for image in images[:16]:
        exact = Reference(run(plain, {"images": image[None]}), SCORES)
        errors.add(exact, run(tmp_path / "q.onnx", {"images": image[None]}))
    theirs = errors.result().sqnr_db
    # Two folds in float, two ways to round a bias, one placement and one set of ranges.
    within = ties.decibels(theirs or 0.0, ties.NETWORK)
    assert theirs is not None and mine[Experiment(scheme)].sqnr_db == pytest.approx(theirs, abs=within)


def test_a_weight_claim_is_the_damage_of_that_weight_alone(models: Path, calibration: Path) -> None:
    """The first convolution quantised by hand: same figure as the claim's test."""
    path = models / "external_data.onnx"
    facts = facts_at(path)
    layer = facts.layers[0]
    images = np.load(calibration)["images"][:4]
    source = ArraySource("s", {"images": images})
    proof = proven(facts, observe(facts, source, 4), [claim(layer.output)], source)

    weight = layer.folded.weight(facts.model)
    step = np.abs(weight).max() / np.float32(127)
    executable = folded(facts)
    changed = executable.with_weights(
        {
            executable.layer_weights[layer.output][0]: (np.clip(np.round(weight / step), -127, 127) * step).astype(
                np.float32
            )
        }
    )
    exact, other = Session(executable), Session(changed)
    pairs = [(exact.run({"images": i[None]})[0], other.run({"images": i[None]})[0]) for i in images]
    expected = sqnr_db(np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs]))
    assert proof.findings[0].measured_db == pytest.approx(expected, abs=ties.decibels(expected))
    assert proof.errors[Experiment.on_weight(INT8_PER_TENSOR, layer.output)].sqnr_db == proof.findings[0].measured_db


def test_claims_are_confirmed_refuted_or_left_with_a_reason(models: Path, calibration: Path) -> None:
    facts = facts_at(models / "depthwise_spread.onnx")
    source = open_source(str(calibration), PRESETS["raw"])
    depthwise = next(layer.output for layer in facts.layers if layer.folded.layer.depthwise)
    asked = [
        claim(depthwise),
        claim(depthwise, "int8-per-channel"),
        claim("no such layer"),
        claim("images", subject=Subject.ACTIVATION),
    ]
    proof = proven(facts, observe(facts, source, 8), asked, source)
    bad, good, missing, image = proof.findings
    assert bad.evidence is Evidence.CONFIRMED and bad.measured_db is not None and bad.measured_db < 20
    assert good.evidence is Evidence.REFUTED and good.measured_db is not None and good.measured_db > 20
    assert missing.evidence is Evidence.UNTESTED and missing.note
    assert image.evidence is Evidence.REFUTED and image.measured_db is not None


def test_samples_that_ranges_were_not_taken_from_are_used_where_there_are_some(models: Path, calibration: Path) -> None:
    facts = facts_at(models / "external_data.onnx")
    source = open_source(str(calibration), PRESETS["raw"])
    assert whole(facts, observe(facts, source, 24), source, 24).held_out == 8
    assert whole(facts, observe(facts, source, 32), source, 32).held_out == 0


def test_an_output_without_signal_proves_nothing() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    proto = onnx_text(
        "agraph (float[N, 4] x) => (float[N, 3] y) { h = MatMul(x, w)\n y = Mul(h, zero) }",
        w=weight,
        zero=np.zeros(1, np.float32),
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    source = ArraySource("s", {"x": np.ones((2, 4), np.float32)})
    (finding,) = proven(facts, observe(facts, source, 2), [claim("h")], source).findings
    assert finding.evidence is Evidence.UNTESTED and "no error could be measured" in finding.note


def test_one_activation_alone_follows_the_operator_specification() -> None:
    """A tensor that is an output is quantised like any other; codes are rounded half to even and saturate."""
    facts = facts_of(as_model(onnx_text("agraph (float[N, 5] x) => (float[N, 5] y) { y = Sigmoid(x) }")), SCHEME_LIST)
    data = np.asarray([[-4, -0.1, 0, 0.3, 6]], np.float32)
    source = ArraySource("s", {"x": data})
    bench = workbench(facts).calibrated(observe(facts, source, 1))
    experiment = Experiment.on_activation(INT8_PER_TENSOR, "x")
    assert [entry.tensor for entry in bench.activations_of(experiment)] == ["x"]
    given, step = bench.scales(INT8_PER_TENSOR)["x"], np.float32(10 / 255)
    assert given.scale == step and given.zero_point == 102
    got = Session(bench.executable(experiment)).run({"x": data})[0]
    codes = np.clip(np.rint(data / step) + 102, 0, 255)
    assert np.allclose(got, 1 / (1 + np.exp(-(codes - 102) * step)), atol=1e-6)


def activation_round_trip(scheme: Scheme, data: np.ndarray) -> np.ndarray:
    """One activation alone through the graph that simulates `scheme`."""
    facts = facts_of(as_model(onnx_text("agraph (float[N, M] x) => (float[N, M] y) { y = Sigmoid(x) }", opset=11)), ())
    source = ArraySource("s", {"x": data})
    bench = workbench(facts).calibrated(observe(facts, source, 1))
    variant = bench.executable(Experiment.on_activation(scheme, "x"))
    del variant.proto.graph.output[:]
    variant.proto.graph.output.append(onnx.helper.make_empty_tensor_value_info("onnxlint_q__q0"))
    return Session(variant).run({"x": data})[0]


def test_every_format_of_activations_rounds_as_its_type_does() -> None:
    data = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    data[0, :4] = (0, 1e-6, -7.5, 7.5)
    step = np.float32(7.5) / np.float32(127)
    symmetric = activation_round_trip(SCHEMES["int8-symmetric"], data)
    np.testing.assert_allclose(symmetric, np.rint(data / step) * step, atol=1e-6)
    wide = activation_round_trip(SCHEMES["int16-activations"], data)
    assert np.abs(wide - data).max() <= 15 / 65535 / 2 * 1.01
    scale = np.float32(7.5) / np.float32(448)
    small = activation_round_trip(SCHEMES["fp8"], data)
    expected = (data / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    assert np.isclose(small, expected, rtol=1e-5, atol=1e-9).mean() > 0.999  # ties at the edge of a float32 quotient


def test_schemes_rank_as_their_formats_do(models: Path, calibration: Path) -> None:
    """A network whose weights and activations both cost something, so that each format shows."""
    facts = facts_of(read_model(models / "silu_gate.onnx"), tuple(SCHEMES.values()))
    source = open_source(str(calibration), PRESETS["raw"])
    errors = whole(facts, observe(facts, source, 32), source, 32).errors
    found = {experiment.scheme.name: error.sqnr_db or 0 for experiment, error in errors.items()}
    ranked = sorted(found, key=lambda name: -found[name])
    kept = ("int16-activations", "int8-per-channel", "int8-symmetric", "fp8", "int4-weights")
    assert [name for name in ranked if name in kept] == list(kept)
    assert found["int4-weights"] > 10


def test_metrics_pool_outputs_and_count_agreement() -> None:
    errors = OutputErrorAccumulator()
    errors.add(Reference([np.asarray([[3.0, 4.0]])], SCORES), [np.asarray([[3.0, 4.5]])])
    errors.add(Reference([np.asarray([[5.0, 0.0]])], SCORES), [np.asarray([[0.0, 5.0]])])
    result = errors.result()
    assert result.agreement == 0.5 and result.samples == 2
    assert result.sqnr_db == pytest.approx(10 * np.log10(50 / 50.25))

    other = OutputErrorAccumulator()
    other.add(Reference([np.asarray([[3.0, 4.0]])], VALUES), [np.asarray([[3.0, 4.5]])])
    assert other.result().agreement is None, "values of no classes"

    two = OutputErrorAccumulator()
    three = [np.asarray([0.0, 1.0]), np.asarray([0.0, 1.0]), np.asarray([7])]
    two.add(
        Reference(three, (*VALUES, *VALUES, Output("n", Holds.NO_FLOATS))),
        [np.asarray([0.0, 1.1]), np.asarray([0.0, 1.0]), np.asarray([0])],
    )
    assert two.result().agreement is None
    assert two.result().sqnr_db == pytest.approx(10 * np.log10(200))
    two.add(
        Reference(three, (*VALUES, *VALUES, Output("n", Holds.NO_FLOATS))),
        [np.asarray([0.0, np.nan]), np.asarray([0.0, 1.0]), np.asarray([0])],
    )
    assert two.result().sqnr_db == pytest.approx(-150 + 10 * np.log10(2))


def test_samples_that_are_made_up_count_alike() -> None:
    pooled, alike = OutputErrorAccumulator(), OutputErrorAccumulator(alike=True)

    def add(errors: OutputErrorAccumulator, exact: list[float], noise: float) -> OutputErrorAccumulator:
        errors.add(Reference([np.asarray(exact)], VALUES), [np.asarray(exact) + np.asarray([noise, 0.0])])
        return errors

    for errors in (pooled, alike):
        for exact, noise in (([10.0, 0.0], 1.0), ([0.0, 10.0], 0.01), ([-10.0, 0.0], 0.1)):
            add(errors, exact, noise)
    assert pooled.result().sqnr_db == pytest.approx(10 * np.log10(300 / 1.0101))
    assert alike.result().sqnr_db == pytest.approx(np.mean([20, 60, 40]))
    # One without a signal has no decibels, one without noise has as many as tell anything.
    assert add(alike, [0.0, 0.0], 1.0).result().sqnr_db == pytest.approx(np.mean([20, 60, 40]))
    assert add(alike, [1.0, 0.0], 0.0).result().sqnr_db == pytest.approx(np.mean([20, 60, 40, 140]))
    assert add(alike, [1.0, 0.0], np.nan).result().sqnr_db == pytest.approx(-150)


def outputs_of(*, exact: list[float], other: list[float]) -> OutputErrorAccumulator:
    errors = OutputErrorAccumulator()
    errors.add(Reference([np.asarray(exact)], VALUES), [np.asarray(other)])
    return errors


def test_an_output_that_is_no_longer_finite_is_as_bad_as_can_be() -> None:
    for broken in (np.nan, np.inf, 1e200):
        result = outputs_of(exact=[1.0, 2.0], other=[1.0, broken]).result()
        assert result.has_signal and result.sqnr_db == pytest.approx(-150)


def test_a_float_model_without_finite_outputs_measures_nothing() -> None:
    for broken in (np.nan, np.inf, 1e200):
        assert not outputs_of(exact=[1.0, broken], other=[1.0, 1.0]).result().has_signal


def test_outputs_that_change_their_shape_are_left_out() -> None:
    errors = outputs_of(exact=[1.0, 2.0], other=[1.0, 2.5])
    errors.add(Reference([np.ones(3)], VALUES), [np.ones(4)])
    assert not errors.result().has_signal


def test_sequence_outputs_are_not_compared() -> None:
    proto = onnx_text(
        """agraph (float[2, 4] x) => (seq(float[N, M]) s, float[2, 3] y) {
            y = MatMul(x, w)
            s = SequenceConstruct(x, y)
        }""",
        w=np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    source = open_source("random", PRESETS["raw"])
    shown = whole(facts, observe(facts, source, 2), source, 2).errors[Experiment(INT8_PER_TENSOR)]
    assert shown.has_signal and shown.sqnr_db is not None


def test_held_out_samples_are_counted_in_samples_not_rows() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    facts = facts_of(
        as_model(onnx_text("agraph (float[8, 4] x) => (float[8, 3] y) { y = MatMul(x, w) }", w=weight)), ()
    )
    rows = np.random.default_rng(1).standard_normal((32, 4)).astype(np.float32)
    source = ArraySource("rows", {"x": rows})
    for count, held_out in ((4, 0), (3, 1), (2, 2)):
        seen = observe(facts, source, count)
        assert (seen.samples, seen.available) == (count, 4)
        found = whole(facts_of(facts.model, SCHEME_LIST), seen, source, count)
        assert found.held_out == held_out and found.errors[Experiment(INT8_PER_TENSOR)].has_signal


def test_a_run_without_end_is_stopped_and_said() -> None:
    proto = onnx_text(
        """agraph (float[2, 2] x) => (float[2, 2] y) {
            y = Loop <body = b (int64 i, bool c, float[2, 2] s) => (bool d, float[2, 2] t)
                { d = Identity(c)  t = Tanh(s) }> (trips, , x)
        }""",
        trips=np.int64(2**62),
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    with pytest.raises(NotRunnableError, match=r"one sample took longer than 0\.2 seconds, so the run was stopped"):
        observe(facts, open_source("random", PRESETS["raw"]), 1, limits=Limits(seconds_per_run=0.2))
    with pytest.raises(NotRunnableError, match=r"one sample took longer than 0\.1 seconds, so the run was stopped"):
        Session(as_stored(facts.model), limits=Limits(seconds_per_run=0.1)).run({"x": np.ones((2, 2), np.float32)})


def test_external_data_of_every_kind_reaches_the_session(tmp_path: Path) -> None:
    """A shape too small to leave the proto, a weight in a branch and one that is an input with a default."""
    proto = onnx_text(
        """agraph (float[1, 2, 6] x, float[4, 3] v) => (float[N, M] y) {
            r = Reshape(x, shape)
            p = MatMul(r, v)
            c = Constant <value = bool {1}> ()
            y = If (c) <then_branch = t () => (float[N, M] a) { a = MatMul(p, w) },
                        else_branch = e () => (float[N, M] b) { b = Identity(p) }>
        }""",
        shape=np.asarray([3, 4]),
        v=np.ones((4, 3), np.float32),
    )
    branch = next(a.g for n in proto.graph.node for a in n.attribute if a.name == "then_branch")
    branch.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "w"))
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(1, 2, 6)}
    (expected,) = run(proto, feeds)
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    facts = facts_at(path)
    for executable in (as_stored(facts.model), folded(facts)):
        assert np.allclose(Session(executable).run(feeds)[0], expected)


def test_probabilities_have_the_scale_of_zero_to_one_however_small_they_are(tmp_path: Path) -> None:
    """The quantiser pins what a Softmax gives; of a hundred classes that are all alike, one step is then too coarse."""
    random = np.random.default_rng(0)
    proto = onnx_text(
        "agraph (float[N, 8] x) => (float[N, 100] y) { l = MatMul(x, w)\n y = Softmax(l) }",
        w=0.05 * random.standard_normal((8, 100)).astype(np.float32),
    )
    rows = random.standard_normal((16, 8)).astype(np.float32)
    onnx.save(proto, tmp_path / "m.onnx")
    facts = facts_at(tmp_path / "m.onnx")
    source = ArraySource("rows", {"x": rows})
    ours = whole(facts, observe(facts, source, 16), source, 0).errors[Experiment(INT8_PER_TENSOR)]

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        samples = iter([{"x": row[None]} for row in rows])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    formats = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), **formats)
    errors = OutputErrorAccumulator()
    for row in rows:
        feeds = {"x": row[None]}
        errors.add(Reference(run(tmp_path / "m.onnx", feeds), facts.outputs), run(tmp_path / "q.onnx", feeds))
    theirs = errors.result().sqnr_db
    assert theirs is not None and theirs < 22
    assert ours.sqnr_db == pytest.approx(theirs, abs=ties.decibels(theirs, ties.NETWORK))
