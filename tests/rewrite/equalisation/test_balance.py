"""Factors nearby at which the rounding errors of weights cancel in the mean."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from onnxlint_q.rewrite.equalisation import balance
from onnxlint_q.rewrite.equalisation.balance import Rounded, balanced
from onnxlint_q.rewrite.equalisation.noise import Vector
from onnxlint_q.rewrite.equalisation.ties import FIXED

READ, HIDDEN, WRITTEN = 24, 40, 16


def network(seed: int = 0, taps: int = 1) -> list[Rounded]:
    """Two layers with free channels between them."""
    generator = np.random.default_rng(seed)
    hidden, given, taken = np.arange(HIDDEN), np.full(READ, FIXED), np.full(WRITTEN, FIXED)

    def layer(reads: npt.NDArray[np.int64], writes: npt.NDArray[np.int64]) -> Rounded:
        weight = generator.normal(size=(1, writes.size, reads.size, taps))
        mean = generator.uniform(0.5, 1.5, (1, reads.size))
        return Rounded(reads[None], writes[None], weight, mean, np.ones((1, writes.size)))

    return [layer(given, hidden), layer(hidden, taken)]


def mean_errors(layer: Rounded, logs: Vector, *, per_row: bool) -> Vector:
    """What rounding the scaled weight adds to each output channel in the mean, as the channel was before."""
    held = np.append(logs, 0.0)
    read, write = np.exp(held[layer.reads[0]]), np.exp(held[layer.writes[0]])
    weight = layer.weight[0] * read[:, None] / write[:, None, None]
    widths = np.abs(weight).max(axis=(1, 2), keepdims=True)
    step = (widths if per_row else widths.max()) / 127
    errors = np.rint(weight / step) * step - weight
    return np.asarray((errors.sum(axis=2) @ (layer.mean[0] / read)) * write)


def rms(values: Vector) -> float:
    return float(np.sqrt(np.square(values).mean()))


@pytest.mark.parametrize("taps", [1, 9])
def test_mean_errors_under_both_kinds_of_scales_become_small(taps: int) -> None:
    layers, start = network(taps=taps), np.zeros(HIDDEN)
    logs = balanced(layers, start, np.ones(HIDDEN, bool))
    first, second = layers
    assert 0 < np.abs(logs).max() <= 0.04 + 1e-12
    one_scale = [rms(mean_errors(first, found, per_row=False)) for found in (start, logs)]
    assert one_scale[1] < one_scale[0] / 2
    each = [rms(mean_errors(second, found, per_row=True)) for found in (start, logs)]
    assert each[1] < each[0] / 2


def test_the_widest_row_keeps_its_width_and_no_other_passes_it() -> None:
    layers = network()
    logs = balanced(layers, np.zeros(HIDDEN), np.ones(HIDDEN, bool))
    widths = np.abs(layers[0].weight[0]).max(axis=(1, 2))
    assert logs[widths.argmax()] == 0
    assert (widths * np.exp(-logs)).max() == widths.max()


def test_channels_that_are_not_free_stay() -> None:
    free = np.arange(HIDDEN) % 2 == 0
    start = np.linspace(-1, 1, HIDDEN)
    logs = balanced(network(), start, free)
    assert (logs[~free] == start[~free]).all()
    assert (logs[free] != start[free]).any()


def test_nothing_changes_where_trying_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = network()
    monkeypatch.setattr(balance, "_ROUNDINGS", sum(layer.weight.size for layer in layers) * balance._FEWEST - 1)
    start = np.zeros(HIDDEN)
    assert (balanced(layers, start, np.ones(HIDDEN, bool)) == start).all()


def test_a_weight_whose_steps_hang_on_every_column_is_left_out_after_a_while() -> None:
    first, second = network()
    tied = Rounded(second.reads, second.writes, np.sign(second.weight), second.mean, second.cost)
    columns = balance._Columns(tied, np.zeros(HIDDEN + 1))
    for number in range(HIDDEN):
        columns.costs(np.array([number]), np.array([0.0, 0.01]))
    assert columns.turns < 0
    assert isinstance(columns.costs(np.array([0]), np.array([0.0])), float)
    logs = balanced([first, tied], np.zeros(HIDDEN), np.ones(HIDDEN, bool))
    left = rms(mean_errors(first, logs, per_row=False))
    assert left < rms(mean_errors(first, np.zeros(HIDDEN), per_row=False)) / 3


def test_moved_columns_leave_the_errors_that_rounding_all_of_them_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_ROOM", 200)
    _, second = network(taps=2)
    columns, logs = balance._Columns(second, np.zeros(HIDDEN + 1)), np.zeros(HIDDEN)
    generator = np.random.default_rng(3)
    for places in (np.array([0]), np.array([3, 9]), np.arange(HIDDEN)):
        by = generator.uniform(-0.04, 0.04)
        columns.costs(places, np.array([0.0, by]))
        columns.move(places, by)
        logs[places] += by
        np.testing.assert_allclose(columns.errors, mean_errors(second, logs, per_row=True), atol=1e-12)


def test_a_layer_of_zeros_changes_nothing() -> None:
    first, second = network()
    dead = Rounded(first.reads, first.writes, np.zeros_like(first.weight), first.mean, first.cost)
    start = np.zeros(HIDDEN)
    assert (balanced([dead, second], start, np.ones(HIDDEN, bool)) == start).all()
