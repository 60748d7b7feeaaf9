"""The stem's kernel on the pixels of the input, against running the network; and which encoding fits its record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from onnxlint_q.analysis.folding import BatchNorm
from onnxlint_q.analysis.image.encoding import ENCODINGS, Encoding, encoding_of, misfit, plainest, reencoded, response
from onnxlint_q.analysis.image.stem import Stem
from onnxlint_q.analysis.observed.data_summary import ImageSummary, Patches
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.judge.rule import Example
from onnxlint_q.judge.testing import example_facts, example_model
from onnxlint_q_rules.data.pictures import RECORDING, pictures, recorded

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\nnet '
PLAIN = HEAD + "(float[1, 3, 16, 16] x) => (float[1, 4, h, w] y) <float[4, 3, 3, 3] w> {\n  y = Conv(x, w)\n}"
STRIDED = HEAD + (
    "(float[1, 3, 16, 16] x) => (float[1, 4, h, w] y) <float[4, 3, 3, 3] w, float[4] b = {1, -2, 3, 0.5}> {\n"
    "  p = Identity(x)\n  y = Conv <dilations = [2, 1]> (p, w, b)\n}"
)
NHWC = HEAD + (
    "(float[1, 16, 16, 3] x) => (float[1, 4, h, w] y) <float[4, 3, 3, 3] w> {\n"
    "  t = Transpose <perm = [0, 3, 1, 2]> (x)\n  y = Conv(t, w)\n}"
)
DEPTH = HEAD + (
    "(float[1, 3, 16, 16] x) => (float[1, 4, h, w] y) <float[4, 12, 3, 3] w> {\n"
    "  s = SpaceToDepth <blocksize = 2> (x)\n  y = Conv(s, w)\n}"
)
FOCUS = HEAD + (
    "(float[1, 3, 16, 16] x) => (float[1, 4, h, w] y) <float[4, 12, 3, 3] w, int64[1] zero = {0}, int64[1] one = {1},"
    " int64[1] two = {2}, int64[1] end = {9999}, int64[1] rows = {2}, int64[1] columns = {3}> {\n"
    "  top = Slice(x, zero, end, rows, two)\n  low = Slice(x, one, end, rows, two)\n"
    "  a = Slice(top, zero, end, columns, two)\n  b = Slice(low, zero, end, columns, two)\n"
    "  c = Slice(top, one, end, columns, two)\n  d = Slice(low, one, end, columns, two)\n"
    "  f = Concat <axis = 1> (a, b, c, d)\n  y = Conv(f, w)\n}"
)


def weights(generator: np.random.Generator) -> dict[str, np.ndarray]:
    return {"w": generator.normal(size=(4, 3, 3, 3)).astype(np.float32)}


def wide(generator: np.random.Generator) -> dict[str, np.ndarray]:
    return {"w": generator.normal(size=(4, 12, 3, 3)).astype(np.float32)}


def stem_of(example: Example) -> Stem:
    stem = example_facts(example).stem
    assert stem is not None
    return stem


@pytest.mark.parametrize(
    "example",
    [
        Example(PLAIN, weights=weights),
        Example(STRIDED, weights=weights),
        Example(NHWC, weights=weights),
        Example(DEPTH, weights=wide),
        Example(FOCUS, weights=wide),
    ],
    ids=["plain", "dilated with bias", "channels last", "space to depth", "focus"],
)
def test_the_kernel_gives_the_first_output_from_the_pixels(example: Example) -> None:
    stem = stem_of(example)
    image = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)
    fed = image.transpose(0, 2, 3, 1) if stem.channels_last else image
    wanted = np.asarray(next(iter(ReferenceEvaluator(example_model(example)).run(None, {"x": fed}))))
    height, width = stem.kernel.shape[2:]
    window = image[0, :, :height, :width]
    seen = (stem.kernel * window).sum(axis=(1, 2, 3)) + (0 if stem.bias is None else stem.bias)
    assert np.allclose(seen, wanted[0, :, 0, 0], atol=1e-4)


@pytest.mark.parametrize(
    "body",
    [
        "  p = Relu(x)\n  y = Conv(p, w)",
        "  p = Transpose <perm = [0, 1, 3, 2]> (x)\n  y = Conv(p, w)",
        "  y = Conv <group = 3> (x, d)",
    ],
)
def test_no_stem_behind_arithmetic_or_other_moves(body: str) -> None:
    text = f"(float[1, 3, 16, 16] x) => (float[1, 3, h, w] y) <float[4, 3, 3, 3] w, float[3, 1, 3, 3] d> {{\n{body}\n}}"
    made = {"w": np.ones((4, 3, 3, 3), np.float32), "d": np.ones((3, 1, 3, 3), np.float32)}
    assert example_facts(Example(HEAD + text, weights=lambda _: made)).stem is None


def patches(images: np.ndarray, stem: Stem) -> Patches:
    facts = example_facts(Example(RECORDING))
    image = inspect(facts, ArraySource("s", {"x": images})).inputs["x"].image
    assert image is not None and image.patches is not None
    assert image.patches.mean.shape == stem.kernel.shape[1:]
    return image.patches


@pytest.mark.parametrize("wanted", ENCODINGS, ids=lambda encoding: encoding.name)
@pytest.mark.parametrize("swapped", [False, True])
def test_moments_of_reencoded_pixels_are_those_of_the_pixels_encoded_anew(wanted: Encoding, swapped: bool) -> None:
    stem = stem_of(Example(RECORDING))
    tf, pixels = ENCODINGS[2], pictures(np.random.default_rng(0), 6).astype(np.float64)
    mean, std = (values.reshape(3, 1, 1) for values in wanted.by_channel(3))
    anew = ((pixels[:, ::-1] if swapped else pixels) - mean) / std
    moved = reencoded(patches((pixels / 127.5 - 1).astype(np.float32), stem), tf, wanted, swapped=swapped)
    direct = patches(anew.astype(np.float32), stem)
    assert np.allclose(moved.mean, direct.mean, rtol=1e-4, atol=1e-4 * float(np.abs(direct.mean).max()))
    assert np.allclose(moved.covariance, direct.covariance, rtol=1e-3, atol=1e-4 * direct.covariance.max())


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_the_encoding_is_seen_from_the_values(encoding: Encoding) -> None:
    mean, std = encoding.by_channel(3)
    full = ImageSummary((0 - mean) / std, (255 - mean) / std, np.ones(3), np.ones(1), None)
    assert encoding_of(full) is encoding
    assert encoding_of(replace(full, low=full.low - 0.1 * (full.high - full.low))) is not encoding
    assert encoding_of(replace(full, high=full.low + 0.01 * (full.high - full.low))) is not encoding


def test_misfit_is_the_divergence_of_two_normal_distributions() -> None:
    images = pictures(np.random.default_rng(1)) / np.float32(255)
    stem = stem_of(Example(RECORDING, weights=lambda _: recorded(images)))
    seen = patches(images, stem)
    assert misfit(stem, seen).max() < 0.01
    mean, variance = response(stem, seen)
    norm = stem.recorded
    assert isinstance(norm, BatchNorm)
    other = replace(stem, recorded=replace(norm, mean=mean - np.sqrt(variance), variance=variance * 4))
    wanted = (1 / 4 + 1 / 4 - 1 - np.log(1 / 4)) / 2
    assert np.allclose(misfit(other, seen), wanted, rtol=1e-6)
    best = plainest(stem, reencoded(seen, ENCODINGS[1], ENCODINGS[0], swapped=True), ENCODINGS[0])
    assert (best.encoding.options, best.swapped) == ("--preprocess unit", True)


def test_a_dead_channel_of_the_record_says_nothing() -> None:
    images = pictures(np.random.default_rng(1)) / np.float32(255)
    stem = stem_of(Example(RECORDING, weights=lambda _: recorded(images)))
    norm = stem.recorded
    assert norm is not None
    dead = norm.variance.copy()
    dead[2] = 1e-9
    assert misfit(replace(stem, recorded=replace(norm, variance=dead)), patches(images, stem)).size == 3
