"""Weights that are worked on tile by tile, and how often they are read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.number_formats import weight_round_trip
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.analysis.statistics import channel_ends, weight_errors, weight_statistics
from onnxlint_q.cores import DEEP, PORTION, on_all_cores, tiles
from onnxlint_q.graph.tensors import TensorStore

NAMES = ("int8-per-tensor", "int8-per-channel", "int4-blocks", "int4-blocks-128-asymmetric")
SHAPES = [(700, 900), (3, 2 * PORTION), (900, DEEP + 1), (1, 5)]


def weight(shape: tuple[int, int], order: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    spread = np.random.default_rng(3).standard_normal(shape) * np.geomspace(1, 9, shape[0])[:, None]
    return np.asarray(spread, np.float32, order="F" if order == "F" else "C")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_hold_every_value_once(shape: tuple[int, int], order: str) -> None:
    matrix = weight(shape, order)
    seen = np.zeros(shape, int)
    for place in tiles(matrix):
        seen[place] += 1
        assert matrix[place].size <= max(PORTION, matrix.shape[1])
    assert (seen == 1).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_errors_are_those_of_the_whole(name: str, order: str) -> None:
    matrix, scheme = weight(SHAPES[0], order), SCHEMES[name]
    whole = weight_round_trip(matrix, scheme.weights, scheme.sharing) - matrix
    (error,) = weight_errors(matrix, [(scheme.weights, scheme.sharing)])
    np.testing.assert_array_equal(error, whole)
    assert error.strides == matrix.strides
    noise = weight_statistics(matrix, [scheme]).noise[name]
    np.testing.assert_allclose(noise, np.square(whole.astype(np.float64)).mean(axis=1), rtol=1e-5)


def test_ends_of_channels_tell_what_is_no_number() -> None:
    matrix = weight(SHAPES[0], "F")
    matrix[5, 300] = np.nan
    low, high = channel_ends(matrix)
    assert np.isnan([low[5], high[5]]).all()
    np.testing.assert_array_equal(np.delete(low, 5), np.delete(matrix.min(axis=1), 5))


def test_squares_that_float32_cannot_hold_are_summed_in_float64() -> None:
    matrix = np.array([[1e-30, 2e-30], [3e25, 4e25], [0, 0], [1, 2]], np.float32)
    power = weight_statistics(matrix, []).power
    np.testing.assert_allclose(power, [2.5e-60, 12.5e50, 0, 2.5], rtol=1e-6)


def test_work_comes_back_in_order() -> None:
    assert on_all_cores(lambda number: number * number, range(100)) == [number * number for number in range(100)]


def test_a_weight_is_measured_once_however_many_layers_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = onnx_text(
        "shared (float[1, 8] a) => (float[1, 8] b) { x = Relu(a) y = MatMul(x, w) z = MatMul(y, w) b = MatMul(z, w) }",
        w=np.ones((8, 8), np.float32),
    )
    model = as_model(text)
    read: Counter[str] = Counter()
    array = TensorStore.array

    def counted(store: TensorStore, tensor: onnx.TensorProto) -> Any:
        read[tensor.name] += 1
        return array(store, tensor)

    monkeypatch.setattr(TensorStore, "array", counted)
    monkeypatch.setattr("onnxlint_q.graph.constants._CACHED_BYTES", 0)
    assert len(measure(model).layers) == 3
    assert read["w"] == 1
