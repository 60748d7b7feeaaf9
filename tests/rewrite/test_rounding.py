"""Weights on the grid of their codes: a quantiser finds the same scale and the codes that were meant."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import as_model, onnx_text, run

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.number_formats import INT4, INT8, UINT4, NumberFormat, Sharing, weight_round_trip
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL
from onnxlint_q.errors import UsageError
from onnxlint_q.rewrite.rounding.grid import weight_grid
from onnxlint_q.rewrite.rounding.steps import packed, rounded, unpacked

GRIDS = [(INT8, Sharing()), (INT8, Sharing(0)), (INT4, Sharing(1, block_size=16)), (UINT4, Sharing(1, block_size=16))]


@pytest.mark.parametrize(("number", "sharing"), GRIDS, ids=["tensor", "channel", "block", "asymmetric"])
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-20, 20))
def test_the_quantiser_finds_the_codes_that_were_meant(
    number: NumberFormat, sharing: Sharing, seed: int, power: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = (random.standard_normal((4, 40)) * 2.0**power).astype(np.float32)
    matrix[0], matrix[1] = 0, np.abs(matrix[1])
    grid = weight_grid(matrix, number, sharing)
    meant = np.clip(grid.nearest(matrix) + random.integers(-3, 4, matrix.shape), grid.lowest, grid.highest)
    values = grid.values(meant, matrix)
    step = np.abs(np.broadcast_to(grid.scale, matrix.shape))
    apart = np.abs(weight_round_trip(values, number, sharing) - values)
    # A block with a zero point rounds that: the values at its ends may lie between two codes.
    free = ~grid.fixed if not number.symmetric else np.ones_like(grid.fixed)
    assert (apart[free] <= 1e-4 * step[free]).all()


def norm_behind() -> onnx.ModelProto:
    random = np.random.default_rng(3)
    values = {
        "w": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "gamma": np.array([1, 0.5, -2, 0.01], np.float32),
        "beta": random.standard_normal(4).astype(np.float32),
        "mean": random.standard_normal(4).astype(np.float32),
        "var": np.array([1, 4, 0.3, 2], np.float32),
    }
    norm = "y = BatchNormalization(c, gamma, beta, mean, var)"
    return onnx_text(f"g (float[1,3,8,8] x) => (float[1,4,6,6] y) {{ c = Conv(x, w) {norm} }}", **values)


def test_a_weight_is_on_the_grid_of_what_the_quantiser_is_given() -> None:
    proto = norm_behind()
    measured = measure(as_model(proto), (INT8_PER_CHANNEL,))
    (layer,) = measured.layers
    steps = np.zeros((4, 27), np.int8)
    steps[:, 3:9] = 1
    made = measure(rounded(measured, INT8_PER_CHANNEL, {layer.output: steps}), measured.schemes)
    (changed,) = made.layers
    assert changed.output == layer.output and not changed.folded.is_folded
    before, after = (one.layers[0].folded.matrix(one.model) for one in (measured, made))
    np.testing.assert_allclose(weight_round_trip(after, INT8, Sharing(0)), after, rtol=1e-5)
    grid = weight_grid(before, INT8, Sharing(0))
    moved = np.rint(after / grid.scale) - grid.nearest(before)
    assert (moved[~grid.fixed] == steps[~grid.fixed]).all()
    x = {"x": np.random.default_rng(4).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    difference = run(made.model.proto, x)[0] - run(proto, x)[0]
    assert 0 < np.abs(difference).max() < 1


def test_steps_come_back_from_text() -> None:
    measured = measure(as_model(norm_behind()), (INT8_PER_CHANNEL,))
    steps = {"y": np.random.default_rng(5).integers(-128, 128, (4, 27)).astype(np.int8)}
    assert np.array_equal(unpacked(measured, packed(steps))["y"], steps["y"])


BOMB = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()


@pytest.mark.parametrize(
    "texts", [{"y": "?"}, {"y": "AAAA"}, {"y": BOMB}, {"z": BOMB}, packed({"y": np.ones((4, 9), np.int8)})]
)
def test_steps_of_another_model_are_refused(texts: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="rounding"):
        unpacked(measure(as_model(norm_behind()), (INT8_PER_CHANNEL,)), texts)
