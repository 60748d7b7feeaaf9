"""The chain of causes on layers whose bad channels are known, and the cure of constant ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.analysis.causes.chain import Cause, CauseKind, constant_channels, find_causes
from onnxlint_q.analysis.causes.gains import compare_gains
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, facts_of

CHANNELS = 12
NETWORK = """
block (float[N, 8, 8, 8] x) => (float[N, 4, 8, 8] y) {
  features = Conv <pads = [1, 1, 1, 1]> (x, w)
  normal = BatchNormalization(features, gamma, beta, mean, variance)
  positive = Relu(normal)
  y = Conv(positive, mix)
}
"""
PLAIN = """
block (float[N, 8, 8, 8] x) => (float[N, 4, 8, 8] y) {
  normal = Conv <pads = [1, 1, 1, 1]> (x, w)
  positive = Relu(normal)
  y = Conv(positive, mix)
}
"""
K = CauseKind


def facts(network: str = NETWORK, **changes: dict[int, float]) -> Facts:
    """A layer of alike channels; `changes` sets one parameter of some channels, `w` multiplies their weights."""
    rng = np.random.default_rng(5)
    values: dict[str, Array] = {
        # Uniform weights, so that the channels differ by what is asked for and by next to nothing else.
        "w": rng.uniform(-1, 1, (CHANNELS, 8, 3, 3)),
        "mix": rng.standard_normal((4, CHANNELS, 1, 1)),
    }
    if network is NETWORK:
        parameters = {"gamma": 1.0, "beta": 0.5, "mean": 0.0, "variance": 24.0}
        values |= {name: np.full(CHANNELS, value) for name, value in parameters.items()}
    for name, entries in changes.items():
        for channel, value in entries.items():
            values[name][channel] = values[name][channel] * value if name == "w" else value
    arrays = {name: value.astype(np.float32) for name, value in values.items()}
    return facts_of(as_model(onnx_text(network, **arrays)), DEFAULT_SCHEMES)


def chain(known: Facts, seen: TensorObservation | None = None) -> dict[CauseKind, Cause]:
    causes = find_causes(known.layers[0], seen)
    assert [cause.kind for cause in causes] == [kind for kind in K if kind in {cause.kind for cause in causes}]
    return {cause.kind: cause for cause in causes}


def test_channels_that_are_alike_have_no_chain() -> None:
    assert chain(facts()) == {}
    assert chain(facts(PLAIN)) == {}


def test_a_still_channel_is_followed_to_the_codes_that_are_left() -> None:
    links = chain(facts(variance={3: 1e-9, 7: 4e-9}, gamma={7: 0.3}))
    assert list(links) == [K.STILL_CHANNELS, K.FOLDING, K.RANGE_OWNERS, K.COLLAPSED_CHANNELS]
    still = links[K.STILL_CHANNELS]
    # gain = 1 / sqrt(1e-5) beside 1 / sqrt(24)
    assert still.channels == (3, 7)
    assert still.numbers["gain_ratio"] == pytest.approx(np.sqrt(24 / 1e-5), rel=1e-3)
    assert still.numbers["variance"] == pytest.approx(4e-9) and still.numbers["ordinary_variance"] == 24
    assert still.numbers["constant"] == 2
    folding = links[K.FOLDING].numbers
    assert folding["widest_over_median_before"] < 1.2 and folding["widest_over_median_after"] > 1000
    assert folding["channel_sqnr_before_db"] > 35 and folding["channel_sqnr_after_db"] < 15
    owners = links[K.RANGE_OWNERS]
    assert owners.channels == (3,)
    assert owners.numbers["median_codes"] == 1
    assert set(links[K.COLLAPSED_CHANNELS].channels) == set(range(CHANNELS)) - {3, 7}


def test_a_gain_that_drifted_is_told_apart_from_one_that_epsilon_holds() -> None:
    links = chain(facts(gamma={5: 40.0}))
    assert list(links) == [K.OUTLIER_GAINS, K.FOLDING, K.RANGE_OWNERS]
    assert links[K.OUTLIER_GAINS].channels == (5,)
    assert links[K.OUTLIER_GAINS].numbers["gain_ratio"] == pytest.approx(40, rel=1e-6)
    owners = links[K.RANGE_OWNERS]
    assert owners.channels == (5,)
    assert owners.numbers["widest_over_median"] == pytest.approx(40, rel=0.05)
    # 127 / 40 rounds to three codes on either side, and zero.
    assert owners.numbers["median_codes"] == 7
    assert owners.numbers["range_share"] == 1 and owners.numbers["runner_up"] < 1.2


def test_a_large_gain_on_small_weights_is_no_cause() -> None:
    assert chain(facts(gamma={5: 40.0}, w={5: 1 / 40})) == {}
    assert chain(facts(variance={5: 1e-9}, w={5: 1e-4})) == {}


def test_without_a_batch_norm_the_chain_starts_where_ranges_drift_apart() -> None:
    links = chain(facts(PLAIN, w={2: 20.0, 9: 15.0}))
    assert list(links) == [K.DRIFTING_RANGES, K.RANGE_OWNERS]
    assert links[K.RANGE_OWNERS].channels == (2, 9)
    assert links[K.DRIFTING_RANGES].numbers["widest_over_median"] == pytest.approx(20, rel=0.05)
    assert links[K.RANGE_OWNERS].numbers["median_codes"] == 13


def test_channels_that_collapse_are_named_and_constant_ones_left_out() -> None:
    links = chain(facts(PLAIN, w={0: 1e-3, 1: 0.0}))
    assert links[K.COLLAPSED_CHANNELS].channels == (0,)
    still = facts(w={0: 1e-6, 4: 1e-3}, variance={0: 1e-12})
    assert list(constant_channels(still.layers[0])) == [0]
    assert chain(still)[K.COLLAPSED_CHANNELS].channels == (4,)


def test_weights_that_are_not_finite_have_no_chain() -> None:
    assert chain(facts(w={3: float("nan")})) == {}
    assert facts(w={3: float("nan")}, variance={5: 1e-12}).cures == {}


def observation(low: float, high: float) -> TensorObservation:
    return TensorObservation.of([low, high])


def test_a_wide_activation_is_held_against_the_median_channel() -> None:
    loud = facts(gamma={5: 40.0})
    # The median channel is expected within 0.5 ± 4; Relu cuts off what is below zero.
    assert chain(loud, observation(0.0, 30.0)).keys() == chain(loud).keys()
    link = chain(loud, observation(0.0, 90.0))[K.WIDE_ACTIVATION]
    assert link.channels == (5,)
    assert link.numbers["ratio"] == pytest.approx(90 / 4.5, rel=1e-3)


def test_a_norm_in_front_of_the_layer_names_input_channels() -> None:
    gamma = np.ones(6)
    gamma[4] = 60.0
    ones = np.ones(6, np.float32)
    proto = onnx_text(
        """block (float[N, 6] x) => (float[N, 5] y) {
          normal = BatchNormalization(x, gamma, beta, mean, variance)
          y = Gemm(normal, w)
        }""",
        gamma=gamma.astype(np.float32),
        beta=0 * ones,
        mean=0 * ones,
        variance=ones,
        w=np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32),
    )
    known = facts_of(as_model(proto), DEFAULT_SCHEMES)
    first = find_causes(known.layers[0])[0]
    assert (first.kind, first.channels, first.inputs) == (K.OUTLIER_GAINS, (4,), True)


def test_a_still_channel_that_is_amplified_is_not_constant() -> None:
    """Variance 1e-3 of the median's, gain to match: behind the norm it varies like the others."""
    loud = facts(variance={3: 24e-4}, gamma={3: 1.0})
    norm = loud.layers[0].folded.after
    assert norm is not None
    gains = compare_gains(norm)
    assert gains.still[3] and not gains.constant[3]
    assert gains.swing[3] == pytest.approx(1, rel=0.01)
    assert loud.cures == {}


def test_the_cure_takes_the_range_back_and_leaves_the_value() -> None:
    known = facts(variance={3: 1e-12}, beta={3: 2.5})
    cure = known.cures["normal"]
    assert cure.candidate.channels == (3,)
    before, after = known.layers[0], cure.layer
    healthy = facts().layers[0].weight.mean_channel_sqnr_db(INT8_PER_TENSOR.name)
    assert after.weight.mean_channel_sqnr_db(INT8_PER_TENSOR.name) == pytest.approx(healthy, abs=2)
    matrix = after.folded.matrix(known.model)
    assert not matrix[3].any()
    assert np.array_equal(np.delete(matrix, 3, 0), np.delete(before.folded.matrix(known.model), 3, 0))
    bias = after.folded.bias(known.model)
    assert bias is not None and bias[3] == 2.5
    now = known.forecasts[INT8_PER_TENSOR.name].layers["normal"].weight_sqnr_db
    assert now is not None and cure.forecast_db is not None and cure.forecast_db > now + 20


def test_the_fixture_with_a_silent_channel(models: Path) -> None:
    known = facts_of(read_model(models / "near_zero_variance.onnx"), DEFAULT_SCHEMES)
    layer = known.layer_by_output["depthwise_bn_out"]
    links = {cause.kind: cause for cause in find_causes(layer)}
    assert list(links) == [K.STILL_CHANNELS, K.FOLDING, K.RANGE_OWNERS, K.COLLAPSED_CHANNELS]
    assert links[K.STILL_CHANNELS].channels == links[K.RANGE_OWNERS].channels == (7,)
    assert list(known.cures) == ["depthwise_bn_out"] and known.cures["depthwise_bn_out"].candidate.channels == (7,)
