"""What the inspection measures, against numpy; that it is bounded; and that it comes before the model runs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxlint_q.analysis.observed.data_summary import DataSummary
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.inspection import INSPECTED, inspect
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.sources import ArraySource, RandomSource, open_source
from onnxlint_q.finding import Finding, Severity
from onnxlint_q.graph import Value
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Example
from onnxlint_q.judge.testing import example_facts
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q_rules.data.constant_input import ConstantInput
from onnxlint_q_rules.data.duplicate_samples import DuplicateSamples
from onnxlint_q_rules.data.noise_like_data import NoiseLikeData
from onnxlint_q_rules.data.pictures import pictures

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\nnet '
COLOURS = HEAD + "(float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y) {\n  y = Relu(x)\n}"
PAIR = HEAD + "(float[N, 8] x, float[N, 8] s) => (float[N, 8] y) {\n  y = Add(x, s)\n}"


def summary(model: str, **arrays: np.ndarray) -> DataSummary:
    return inspect(example_facts(Example(model)), ArraySource("test", arrays), 64)


def facts_of(model: str, **arrays: np.ndarray) -> Facts:
    return example_facts(Example(model)).inspected(summary(model, **arrays))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_moments_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(40, 8)) + 1000
    seen = summary(PAIR, x=values.astype(np.float32), s=noise(40, 8)).inputs["x"]
    centred = values - values.mean()
    assert (seen.values, seen.shape, seen.floating) == (320, (1, 8), True)
    assert seen.mean == pytest.approx(values.mean())
    assert seen.deviation == pytest.approx(values.std(), rel=1e-3)
    assert seen.skewness == pytest.approx((centred**3).mean() / values.std() ** 3, rel=1e-2)
    assert seen.kurtosis == pytest.approx((centred**4).mean() / values.std() ** 4, rel=1e-2)


def test_image_figures_are_those_of_numpy() -> None:
    images = pictures(np.random.default_rng(0), 5)
    image = summary(COLOURS, x=images).inputs["x"].image
    assert image is not None and image.patches is None
    assert np.allclose(image.low, images.min(axis=(0, 2, 3))) and np.allclose(image.high, images.max(axis=(0, 2, 3)))
    assert np.allclose(image.deviation, images.std(axis=(0, 2, 3)), rtol=1e-5)
    one = images[0].astype(np.float64)
    one -= one.mean(axis=(1, 2), keepdims=True)
    pairs = (one[:, 1:] * one[:, :-1]).mean() + (one[:, :, 1:] * one[:, :, :-1]).mean()
    assert image.correlation[0] == pytest.approx(pairs / (2 * np.square(one).mean()))


def test_copies_are_counted_over_all_inputs_and_apart_from_near_ones() -> None:
    x = noise(6, 8)
    x[4], x[5] = x[1], x[1]
    same, other = np.ones((6, 8), np.float32), noise(6, 8, seed=1)
    assert summary(PAIR, x=x, s=same).duplicates == ((1, 4, 5),)
    assert summary(PAIR, x=x, s=other).duplicates == ()
    images = pictures(np.random.default_rng(0), 4)
    seen = summary(COLOURS, x=np.concatenate([images, images[:1], images[1:2] * np.float32(0.9)]))
    assert (seen.duplicates, seen.alike) == (((0, 4),), ((1, 5),))


def test_pictures_of_any_size_and_what_is_no_picture_are_looked_at_together(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number, shape in enumerate([(1, 3, 20, 20), (1, 3, 9, 9), (1, 1, 20, 20), (1, 3, 2, 2), (1, 3, 0, 4)]):
        np.savez(tmp_path / f"{number}.npz", x=draw.standard_normal((1, *shape)).astype(np.float32))
    np.savez(tmp_path / "5.npz", x=np.load(tmp_path / "0.npz")["x"] * np.float32(0.9))
    facts = example_facts(Example(HEAD + "(float[a,b,c,d] x) => (float[a,b,c,d] y) { y = Relu(x) }"))
    seen = inspect(facts, open_source(str(tmp_path), PRESETS["raw"]), 6)
    assert seen.samples == 6 and seen.alike == ((0, 5),)
    image = seen.inputs["x"].image
    assert image is not None and image.low.size == 3


def test_blank_pictures_are_no_near_copies_of_each_other() -> None:
    images = pictures(np.random.default_rng(0), 4)
    images[1], images[2] = 3, 7
    seen = summary(COLOURS, x=images)
    assert seen.alike == () and seen.inputs["x"].constant == (1, 2)


@pytest.mark.parametrize(("copies", "severity"), [(1, Severity.INFO), (5, Severity.WARNING)])
def test_many_copies_are_a_warning(copies: int, severity: Severity) -> None:
    images = pictures(np.random.default_rng(0), 5)
    (finding,) = DuplicateSamples().findings(facts_of(COLOURS, x=np.concatenate([images, images[:copies]])))
    assert finding.severity is severity
    assert (finding.metrics["copies"], finding.metrics["different"]) == (copies, 5)


def test_small_samples_may_be_equal_by_chance() -> None:
    flag = HEAD + "(float[N, 1] x) => (float[N, 1] y) {\n  y = Relu(x)\n}"
    assert list(DuplicateSamples().findings(facts_of(flag, x=np.ones((9, 1), np.float32)))) == []


def test_a_data_set_of_nothing_is_a_warning_and_a_mask_of_ones_is_not_told() -> None:
    (finding,) = ConstantInput().findings(facts_of(COLOURS, x=np.zeros((4, 3, 32, 32), np.float32)))
    assert finding.severity is Severity.WARNING and "nothing to calibrate on" in finding.message
    masked = HEAD + "(float[N, 8] x, int64[N, 8] m) => (float[N, 8] y) {\n  f = Cast<to=1>(m)\n  y = Mul(x, f)\n}"
    assert list(ConstantInput().findings(facts_of(masked, x=noise(9, 8), m=np.ones((9, 8), np.int64)))) == []


def test_standardised_data_is_not_taken_for_noise() -> None:
    values = np.random.default_rng(0).laplace(size=(64, 128))
    values = ((values - values.mean()) / values.std()).astype(np.float32)
    wide = HEAD + "(float[N, 128] x) => (float[N, 128] y) {\n  y = Relu(x)\n}"
    assert list(NoiseLikeData().findings(facts_of(wide, x=values))) == []
    (finding,) = NoiseLikeData().findings(facts_of(wide, x=noise(64, 128)))
    assert "N(0, 1)" in finding.message and finding.severity is Severity.INFO


@pytest.mark.parametrize(
    ("elem", "data"),
    [
        ("double", np.full((3, 8), 1e300) * np.arange(8)),
        ("bool", np.eye(3, 8, dtype=bool)),
        ("uint8", np.eye(3, 8, dtype=np.uint8)),
        ("float16", np.full((3, 8), 60_000, np.float16)),
        ("complex64", np.full((3, 8), 1 + 2j, np.complex64)),
    ],
)
def test_every_type_of_number_can_be_looked_at(elem: str, data: np.ndarray) -> None:
    seen = summary(HEAD + f"({elem}[N, 8] x) => ({elem}[N, 8] y) {{\n  y = Identity(x)\n}}", x=data)
    assert seen.samples == 3 and seen.inputs["x"].high == float(max(data.real.max(), data.imag.max()))


class Endless(Source):
    """Large samples without end, that remembers how many were asked for."""

    name = "endless"
    given = 0

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int | None:
        return None

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        while True:
            self.given += 1
            yield {"x": np.full((1, 3, 32, 32), self.given, np.float32)}


def test_memory_and_time_are_bounded_whatever_is_asked_for() -> None:
    facts, source = example_facts(Example(COLOURS)), Endless()
    tracemalloc.start()
    try:
        seen = inspect(facts, source, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen.samples == source.given == INSPECTED
    assert peak < 16 << 20


def test_random_values_are_not_inspected() -> None:
    seen = inspect(example_facts(Example(COLOURS)), RandomSource(), 8)
    assert (seen.synthetic, seen.samples, seen.available, dict(seen.inputs)) == (True, 8, None, {})


def linted(tmp_path: Path, model: str, images: np.ndarray) -> list[Finding]:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0).astype(np.uint8)).save(folder / f"{number}.png")
    onnx.save(onnx.parser.parse_model(model), tmp_path / "m.onnx")
    request = CheckRequest(DataRequest(open_source(str(folder), PRESETS["unit"]), 32))
    rules = Config().build([entry.rule for entry in load_rules()])
    result = lint(tmp_path / "m.onnx", rules, Config(), request)
    assert result.untested_because.startswith("ONNX Runtime cannot run it")
    return list(result.findings)


def test_data_is_judged_even_where_the_model_cannot_run(tmp_path: Path) -> None:
    unknown = HEAD.replace('"" : 17', '"" : 17, "nobody" : 1') + (
        "(float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y) {\n  y = nobody.Thing(x)\n}"
    )
    images = pictures(np.random.default_rng(0), 3)
    found = linted(tmp_path, unknown, np.concatenate([images, images[:1]]))
    (copies,) = (finding for finding in found if finding.code == "QD003")
    assert copies.message == "3 of 4 samples are different: 1 is an exact copy of another."
    assert copies.metrics["examples"] == "0.png, 3.png"
    assert {"QD001", "QD003"} <= {finding.code for finding in found}


def test_data_that_does_not_fit_is_an_error_even_then() -> None:
    with pytest.raises(DataError, match="holds no samples"):
        summary(COLOURS, x=np.zeros((0, 3, 32, 32), np.float32))
    with pytest.raises(DataError, match="sample 2 of input 'x' holds NaN"):
        images = pictures(np.random.default_rng(0), 3)
        images[2, 0, 0, 0] = np.nan
        summary(COLOURS, x=images)
