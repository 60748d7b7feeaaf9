"""Rewrites as transactions: what changes the float outputs or costs the quantised ones is taken back, with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.outputs.output_kind import Holds, Output
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, LAYERS_ONLY, Scheme
from onnxlint_q.errors import ModelError
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import split
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator, Reference
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import Model
from onnxlint_q.proof.mending.transaction import Mended, Mender, gains_nothing, loses, mend
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

# Two columns of the first weight are a hundred times as wide as the others; the second layer divides again.
WIDE = (1, 5)
FACTOR = 128.0


@dataclass(frozen=True, slots=True)
class Column(Candidate):
    """A hidden channel whose weights are multiplied by a factor, and divided again behind it."""

    channel: int
    factor: float
    back: float

    @property
    def change(self) -> str:
        return f"channel {self.channel} is scaled"


def network() -> Model:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(8, 8)).astype(np.float32), rng.normal(size=(8, 4)).astype(np.float32)
    first[:, WIDE] *= FACTOR
    second[list(WIDE)] /= FACTOR
    text = "g (float[N,8] x) => (float[N,4] y) { h = MatMul(x, first) r = Relu(h) y = MatMul(r, second) }"
    return as_model(onnx_text(text, first=first, second=second))


def scaled(model: Model, columns: Sequence[Column]) -> Model:
    edit = Edit(model)
    nodes = [model.producer(key) for key in ("h", "y")]
    first, second = (model.constants[node.input(1)].copy() for node in nodes if node is not None)
    for column in columns:
        first[:, column.channel] *= column.factor
        second[column.channel] *= column.back
    edit.replace_constant("h", 1, first, "scaled")
    edit.replace_constant("y", 1, second, "scaled")
    return edit.done()


def rewrite(
    *columns: Candidate | Refusal,
    name: str = "scale",
    moves_values: bool = True,
    apply: Callable[[Model, Sequence[Column]], Model] = scaled,
) -> Rewrite:
    return Rewrite(
        name, "columns scaled", Safety.EXACT, lambda measured, seen: columns, apply, moves_values=moves_values
    )


GOOD = tuple(Column("h", channel, 1 / FACTOR, FACTOR) for channel in WIDE)
WRONG = Column("h", 3, 2.0, 1.0)
WORSE = Column("h", 0, 4096.0, 1 / 4096.0)


def mended(*rewrites: Rewrite, model: Model | None = None) -> Mended:
    measured: Measured = measure(model or network(), (INT8_PER_TENSOR,))
    data: dict[str, Array] = {"x": np.random.default_rng(1).normal(size=(24, 8)).astype(np.float32)}
    source = ArraySource("s", data)
    divided = split(source, measured.model.inputs, 12)
    bench = workbench(measured).calibrated(observe(measured, source, divided.calibrating))
    return mend(bench, rewrites, divided)


def further(made: Mended, scheme: Scheme, *rewrites: Rewrite) -> Mended:
    """More rewrites on what was made, under a scheme of its own."""
    measured = measure(network(), (scheme,))
    data: dict[str, Array] = {"x": np.random.default_rng(1).normal(size=(24, 8)).astype(np.float32)}
    source = ArraySource("s", data)
    divided = split(source, measured.model.inputs, 12)
    bench = workbench(measured).calibrated(observe(measured, source, divided.calibrating))
    return Mender(bench, divided).further(made, rewrites)


def worst_db(found: Mended) -> float:
    error = found.errors[Experiment(INT8_PER_TENSOR)].worst_db
    assert error is not None
    return error


def test_what_helps_and_leaves_the_float_outputs_is_kept() -> None:
    found = mended(rewrite(*GOOD))
    (step,) = found.steps
    assert step.kept == GOOD and not step.left_out
    assert found.exact is not None and (found.exact.worst_db is None or found.exact.worst_db > 120)
    assert worst_db(found) > worst_db(mended()) + 5


def test_a_place_that_changes_the_float_outputs_is_left_out_and_the_others_are_changed() -> None:
    found = mended(rewrite(GOOD[0], WRONG, GOOD[1]))
    (step,) = found.steps
    assert step.kept == GOOD
    ((left,),) = (step.left_out,)
    assert left.candidate == WRONG and left.reason.startswith("it changes the float outputs (")
    assert worst_db(found) == worst_db(mended(rewrite(*GOOD)))


def test_one_that_only_changes_them_leaves_the_model_as_it_was() -> None:
    found = mended(rewrite(WRONG))
    assert not found.steps[0].kept and found.exact is None
    assert found.bench.measured.model.proto == network().proto


def test_what_costs_the_quantised_model_is_taken_back() -> None:
    found = mended(rewrite(WORSE), rewrite(*GOOD, name="mend"))
    first, second = found.steps
    assert not first.kept and first.left_out[0].reason.startswith("the quantised model gets worse (int8-per-tensor: ")
    assert second.kept == GOOD


def test_what_gains_nothing_by_itself_stays_for_the_one_that_needs_it() -> None:
    # One wide column still sets the scale.
    found = mended(rewrite(GOOD[0], name="half"), rewrite(GOOD[1], name="other half"))
    assert [step.kept for step in found.steps] == [GOOD[:1], GOOD[1:]]


def test_where_nothing_is_gained_in_the_end_only_what_moves_no_value_is_kept() -> None:
    tidy = rewrite(Column("h", 0, 1.0, 1.0), name="tidy", moves_values=False)
    found = mended(rewrite(Column("h", 0, 1.0, 1.0), name="idle"), tidy)
    idle, tidied = found.steps
    assert not idle.kept and idle.left_out[0].reason.startswith(
        "all rewrites together gain the quantised model nothing"
    )
    assert tidied.kept


def test_what_others_left_is_changed_further_under_another_scheme() -> None:
    first = mended(rewrite(GOOD[0], name="half"), rewrite(GOOD[1], name="other half"))
    layers = LAYERS_ONLY[INT8_PER_TENSOR]
    back = tuple(Column("h", channel, FACTOR, 1 / FACTOR) for channel in WIDE)
    assert further(first, layers, rewrite(*back, name="back")) is first
    spoilt = mended(rewrite(WORSE, moves_values=False))
    good = Column("h", 0, 1 / 4096.0, 4096.0)
    made = further(spoilt, layers, rewrite(good, name="mend"))
    assert [step.rewrite.name for step in made.steps] == ["scale", "mend"] and made.steps[1].kept == (good,)
    assert made.given is spoilt.given and set(made.errors) == {Experiment(layers)}
    assert made.exact is not None and (made.exact.worst_db is None or made.exact.worst_db > 120)


def test_one_that_makes_no_graph_is_told_and_undone() -> None:
    def fails(model: Model, columns: Sequence[Column]) -> Model:
        raise ModelError("m: no graph")

    found = mended(rewrite(*GOOD, apply=fails), rewrite(*GOOD))
    first, second = found.steps
    assert {left.reason for left in first.left_out} == {"the changed model does not run: m: no graph"}
    assert second.kept == GOOD


def test_refusals_are_told() -> None:
    refusal = Refusal("h", "it cannot be")
    (step,) = mended(rewrite(refusal)).steps
    assert step.refused == (refusal,) and not step.kept and not step.left_out


def errors(noises: Sequence[float], scheme: Scheme = INT8_PER_TENSOR) -> Mapping[Experiment, OutputError]:
    """One number a sample, with these errors."""
    accumulator = OutputErrorAccumulator()
    for number, noise in enumerate(noises):
        exact = np.array([10.0 + number])
        accumulator.add(Reference([exact], [Output("y", Holds.VALUES)]), [exact + noise])
    return {Experiment(scheme): accumulator.result()}


def test_a_gain_that_hangs_on_one_sample_does_not_count() -> None:
    before, lucky, better = [3.0, 1.0, 1.0, 1.0], [0.1, 1.0, 1.0, 1.0], [1.5, 0.5, 0.5, 0.5]
    assert gains_nothing(errors(before), errors(lucky)).startswith("all rewrites together gain")
    assert not gains_nothing(errors(before), errors(better))
    # A loss of the one scheme is made up for by a sure gain of the other only.
    worse = errors([1.0, 1.0, 1.0, 1.0], INT8_PER_CHANNEL), errors([1.4, 1.4, 1.4, 1.4], INT8_PER_CHANNEL)
    assert loses({**errors(before), **worse[0]}, {**errors(lucky), **worse[1]}).startswith("the quantised model gets")
    assert not loses({**errors(before), **worse[0]}, {**errors(better), **worse[1]})


@pytest.mark.parametrize("alike", [False, True])
def test_figures_without_each_sample(alike: bool) -> None:
    def result(noises: Sequence[float]) -> OutputError:
        accumulator = OutputErrorAccumulator(alike)
        for number, noise in enumerate(noises):
            exact = np.array([10.0 + number])
            accumulator.add(Reference([exact], [Output("y", Holds.VALUES)]), [exact + noise])
        return accumulator.result()

    noises = [3.0, 1.0, 0.5]
    last = result(noises).worst_without_db[2]
    assert last == pytest.approx(result(noises[:2]).worst_db)
    assert result(noises[:1]).worst_without_db == () and result([0.0, 0.0]).worst_without_db == (math.inf, math.inf)
