"""The search for a recipe: what costs nothing comes first, what costs something only where that is not enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text, versioned_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import (
    DEFAULT_SCHEMES,
    INT8_DYNAMIC,
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    LAYERS_ONLY,
    Scheme,
)
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.proof.recipe.goal import MOST_FLOAT, Goal
from onnxlint_q.proof.recipe.search import TRIED_OBSERVERS, Found, network_of, search

SAMPLES = 16


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def prepared(proto: onnx.ModelProto, samples: Array, schemes: Sequence[Scheme]) -> tuple[Workbench, Split]:
    measured = measure(as_model(proto), schemes)
    source = ArraySource("x", {"x": samples})
    half = len(samples) // 2
    return workbench(measured).calibrated(observe(measured, source, half)), Split(
        source, measured.model.inputs, half, half
    )


def found(
    protos: Sequence[onnx.ModelProto],
    samples: Array,
    least: float,
    schemes: Sequence[Scheme] = (INT8_PER_TENSOR,),
    progress: Callable[[str, int, int], None] = lambda *_: None,
    most: float = MOST_FLOAT,
) -> Found:
    """What is found for networks that compute the same, the first of which was given."""
    given, split = prepared(protos[0], samples, schemes)
    networks = {
        scheme: [(lambda one=one, scheme=scheme: prepared(one, samples, (scheme,))[0]) for one in protos]
        for scheme in schemes
    }
    return search(given, networks, Goal(lambda _: Verdict.BREAKS, least, most_finer=most), split, progress)


def chain(factor: float = 1.0, wide: Sequence[int] = ()) -> onnx.ModelProto:
    """Two products; some hidden channels are so many times as wide as the others, and made small again."""
    first, second = normal(16, 16), normal(16, 8, seed=1)
    first[:, wide] *= factor
    second[wide, :] /= factor
    text = "g (float[N,16] x) => (float[N,8] y) { h = MatMul(x, first) r = Relu(h) y = MatMul(r, second) }"
    proto = onnx_text(text, first=first, second=second)
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    return proto


PLAIN, UNEQUAL = chain(), chain(128.0, (1, 5))


def refuses() -> onnx.ModelProto:
    raise AssertionError("a network was made that nobody needs")


def test_what_costs_nothing_is_enough_where_it_reaches_the_goal() -> None:
    given, split = prepared(PLAIN, normal(SAMPLES, 16, seed=2), DEFAULT_SCHEMES)
    networks = {
        scheme: [lambda scheme=scheme: prepared(PLAIN, normal(SAMPLES, 16, seed=2), (scheme,))[0], refuses]
        for scheme in DEFAULT_SCHEMES
    }
    made = search(given, networks, Goal(lambda _: Verdict.BREAKS, 25.0), split)  # type: ignore[arg-type]
    assert made.reached and made.best.network == 0 and not made.best.excluded and not made.best.wide
    plain = [one for one in made.attempts if not one.shifts]
    assert [(one.scheme, one.observer) for one in plain] == [
        (scheme, observer) for scheme in DEFAULT_SCHEMES for observer in TRIED_OBSERVERS
    ]
    assert made.best.worst_db == max(one.worst_db for one in made.attempts)


def test_another_network_is_taken_where_the_first_is_not_good_enough() -> None:
    samples = normal(SAMPLES, 16, seed=2)
    made = found([UNEQUAL, PLAIN], samples, 25.0)
    assert made.reached and made.best.network == 1
    assert {one.network for one in made.attempts} == {0, 1} and not any(one.excluded for one in made.attempts)
    before = max(one.worst_db for one in made.attempts if one.network == 0)
    assert before < 20 and made.best.worst_db >= 25


def test_the_same_network_is_not_tried_twice() -> None:
    made = found([UNEQUAL, UNEQUAL], normal(SAMPLES, 16, seed=2), 90.0)
    assert {one.network for one in made.attempts} == {0}


def test_ranges_come_from_where_they_leave_the_least_noise() -> None:
    samples = normal(SAMPLES, 64, 512, seed=3)
    samples[3, 5, 7] = 400.0  # which a Sigmoid makes the same as 20
    text = "g (float[N,64,512] x) => (float[N,64,8] y) { s = Sigmoid(x) y = MatMul(s, w) }"
    made = found([onnx_text(text, w=normal(512, 8))], samples, 90.0)
    by_observer = {one.observer: one.worst_db for one in made.attempts if not (one.shifts or one.wide or one.excluded)}
    assert set(by_observer) == set(TRIED_OBSERVERS)
    assert max(by_observer["percentile"], by_observer["mse"]) > by_observer["min-max"] + 6
    assert made.best.observer != "min-max" and not made.reached


def test_biases_are_shifted_where_that_helps_and_the_network_has_them() -> None:
    random = np.random.default_rng(2)
    spread = np.geomspace(0.02, 2, 8)[:, None, None, None]
    text = """
    g (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
      a = Conv <pads = [1, 1, 1, 1], group = 8> (x, w, b)
      r = Relu(a)
      y = Conv(r, v)
    }"""
    proto = onnx_text(
        text,
        w=((random.standard_normal((8, 1, 3, 3)) + 0.3) * spread).astype(np.float32),
        v=(random.standard_normal((8, 8, 1, 1)) / spread.reshape(1, 8, 1, 1)).astype(np.float32),
        b=random.standard_normal(8).astype(np.float32),
    )
    samples = normal(32, 8, 6, 6) * np.float32(0.2) + np.float32(2)
    plain = found([proto], samples, -50.0)
    assert plain.reached and "a" in plain.best.shifts
    alike = [one for one in plain.attempts if one.observer == plain.best.observer and not one.shifts]
    assert plain.best.worst_db > max(one.worst_db for one in alike) + 1
    given, split = prepared(proto, samples, (INT8_PER_TENSOR,))
    bench = network_of(given, plain.best)
    again = run_variants(given, {0: lambda: bench.executable(plain.best.experiment)}, split.for_search)[0]
    assert again.worst_db == pytest.approx(plain.best.worst_db, abs=0.01)


def masked(lowest: float) -> onnx.ModelProto:
    """Scores of which one is masked, so that 8 bits leave few codes to all others."""
    text = """
    g (float[1, 16, 8] x) => (float[1, 16, 8] y) {
      a = MatMul(x, w)
      b = Add(a, mask)
      p = Softmax(b)
      c = MatMul(p, v)
      y = Add(c, x)
    }"""
    mask = np.zeros((1, 1, 8), np.float32)
    mask[..., -1] = lowest
    proto = versioned_text(13, "", text, mask=mask, w=normal(8, 8, seed=3), v=normal(8, 8, seed=4) * np.float32(3))
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    return proto


def test_activations_that_cost_most_get_16_bits_before_nodes_stay_in_float() -> None:
    made = found([masked(-3e3)], normal(SAMPLES, 16, 8, seed=5), 20.0, (INT8_PER_CHANNEL,))
    assert made.reached and "b" in made.best.wide and not made.best.excluded
    assert not any(one.excluded for one in made.attempts)
    assert max(one.worst_db for one in made.attempts if not one.wide) < 20


def test_nodes_stay_in_float_where_16_bits_are_not_enough() -> None:
    made = found([masked(-3e7)], normal(SAMPLES, 16, 8, seed=5), 20.0, (INT8_PER_CHANNEL,))
    assert made.reached and made.best.excluded & {"node_b", "node_p"} and not made.best.wide
    widened = [number for number, one in enumerate(made.attempts) if one.wide]
    in_float = [number for number, one in enumerate(made.attempts) if one.excluded]
    assert widened and in_float and max(widened) < min(in_float)


def test_a_goal_out_of_reach_gives_the_best_that_was_found() -> None:
    made = found([PLAIN], normal(SAMPLES, 16, seed=2), 90.0)
    assert not made.reached and made.best.worst_db == max(one.worst_db for one in made.attempts)


def test_no_more_multiplications_leave_8_bits_than_may() -> None:
    samples = normal(SAMPLES, 16, seed=2)
    none, all_of_them = (found([UNEQUAL], samples, 90.0, most=most) for most in (0.0, 1.0))
    assert not any(one.excluded or one.wide & {"x", "r"} for one in none.attempts)
    assert all_of_them.best.excluded and all_of_them.best.worst_db > none.best.worst_db + 2


def test_scales_of_each_run_come_after_those_that_are_known_before() -> None:
    samples = normal(24, 16, seed=2)
    schemes = (INT8_PER_TENSOR, INT8_DYNAMIC)
    samples = normal(24, 2, 8, seed=2)
    text = "g (float[N,2,8] x) => (float[N,4,8] y) { h = Conv(x, kernel) y = Softmax(h) }"
    proto = onnx_text(text, kernel=normal(4, 2, 3))
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", [1, 1]))
    even = found([proto], samples, 15.0, schemes)
    assert even.reached and {one.scheme for one in even.attempts} == {INT8_PER_TENSOR}
    samples[1::2] *= 500
    uneven = found([proto], samples, 25.0, schemes)
    assert uneven.reached and uneven.best.scheme is INT8_DYNAMIC and not uneven.best.shifts
    assert [one.scheme for one in uneven.attempts].index(INT8_DYNAMIC) == len(uneven.attempts) - 1


def test_layers_only_follow_where_everything_in_int8_is_not_enough() -> None:
    samples = normal(24, 16, seed=2)
    body = "h = MatMul(x, first) s = Add(h, large) d = Sub(s, large) y = MatMul(d, v)"
    text = f"g (float[N,16] x) => (float[N,8] y) {{ {body} }}"
    large = np.full(16, 3e3, np.float32)
    proto = onnx_text(text, first=normal(16, 16), v=normal(16, 8, seed=1), large=large)
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    layers = LAYERS_ONLY[INT8_PER_TENSOR]
    made = found([proto], samples, 25.0, (INT8_PER_TENSOR, layers))
    assert made.reached and made.best.scheme is layers
    assert made.best.experiment.excluded == made.best.experiment.wide == frozenset()


def test_a_network_in_which_nothing_can_be_quantised_is_told() -> None:
    proto = onnx_text("g (float[N,16] x) => (float[N,16] y) { y = Sin(x) }")
    with pytest.raises(NotRunnableError, match="none of the schemes quantises anything in it"):
        found([proto], normal(SAMPLES, 16), 20.0)


def test_no_attempt_is_made_twice() -> None:
    made = found([UNEQUAL], normal(SAMPLES, 16, seed=2), 90.0, most=1.0)
    ways = [(one.without_shifts, bool(one.shifts)) for one in made.attempts]
    finer = [one for one in made.attempts if one.excluded or one.wide]
    assert finer and len(set(ways)) == len(ways)


def test_attempts_are_compared_on_samples_behind_both_parts() -> None:
    samples = normal(2 * SAMPLES, 16, seed=2)
    samples[SAMPLES:] *= 4.0  # far out of the ranges
    given, split = prepared(PLAIN, samples[:SAMPLES], (INT8_PER_TENSOR,))
    source = ArraySource("x", {"x": samples})
    more = Split(source, split.inputs, split.calibrating, split.held_out)
    networks = {INT8_PER_TENSOR: [lambda: given]}
    goal = Goal(lambda _: Verdict.BREAKS, 90.0, most_finer=0.0)
    fitted, apart = (search(given, networks, goal, one) for one in (split, more))
    assert fitted.best.worst_db > 25 and apart.best.worst_db < 15


ALIKE = normal(4 * SAMPLES, 3, seed=5) @ normal(3, 16, seed=6)


def test_weights_are_rounded_for_each_other_where_they_make_the_noise() -> None:
    made = found([PLAIN], ALIKE, 90.0, (INT8_DYNAMIC,))
    plain, rounded = ([one for one in made.attempts if bool(one.steps) is having] for having in (False, True))
    assert rounded and max(one.worst_db for one in rounded) > max(one.worst_db for one in plain)
    assert made.best.steps and not made.best.shifts
    enough = found([PLAIN], ALIKE, 20.0, (INT8_DYNAMIC,))
    assert enough.reached and not any(one.steps for one in enough.attempts)


def test_codes_of_layers_that_leave_8_bits_are_as_they_were() -> None:
    made = found([UNEQUAL], ALIKE, 90.0, most=1.0)
    finer = [one for one in made.attempts if one.steps and one.excluded]
    assert finer
    for one in finer:
        assert {f"node_{layer}" for layer in one.steps}.isdisjoint(one.excluded)
