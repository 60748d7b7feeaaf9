"""Recurrent operators in the forecast, against ONNX Runtime and against small differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.forecast.forecast import forecast
from onnxlint_q.forecast.forward import propagate
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.forecast.operators.cells import GATES
from onnxlint_q.forecast.operators.recurrent import recurrent
from onnxlint_q.forecast.population import IMAGES, POSITIONS, SIZE, field
from onnxlint_q.forecast.step import Site, Step
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import find_layers

INPUTS, HIDDEN = 3, 4
SIMPLE = ("Tanh", "Sigmoid", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign")


@dataclass(frozen=True)
class Recurrent:
    """A recurrent node that reads `x`, `[steps, batch, INPUTS]`, with all constants and perhaps given states."""

    op_type: str
    direction: str = "forward"
    steps: int | None = 5
    states: bool = False
    biased: bool = True
    peepholes: bool = False
    attributes: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def results(self) -> tuple[str, ...]:
        return ("y", "h", "c") if self.op_type == "LSTM" else ("y", "h")

    def proto(self) -> onnx.ModelProto:
        draw, rows = np.random.default_rng(self.seed), GATES[self.op_type] * HIDDEN
        arrays = {
            "w": draw.normal(0, 0.7, (self.directions, rows, INPUTS)),
            "r": draw.normal(0, 0.5, (self.directions, rows, HIDDEN)),
        }
        names = ["x", "w", "r", "", "", "", "", ""]
        if self.biased:
            arrays["b"] = draw.normal(0, 0.5, (self.directions, 2 * rows))
            names[3] = "b"
        given_states = ("h0", "c0")[: len(self.results) - 1] if self.states else ()
        for slot, name in enumerate(given_states, start=5):
            names[slot] = name
        if self.peepholes:
            arrays["p"] = draw.normal(0, 0.5, (self.directions, 3 * HIDDEN))
            names[7] = "p"
        while not names[-1]:
            names.pop()
        node = helper.make_node(
            self.op_type, names, self.results, hidden_size=HIDDEN, direction=self.direction, **dict(self.attributes)
        )
        floats = onnx.TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info("x", floats, [self.steps, "n", INPUTS])]
        inputs += [helper.make_tensor_value_info(k, floats, [self.directions, "n", HIDDEN]) for k in given_states]
        outputs = [helper.make_tensor_value_info(name, floats, None) for name in self.results]
        stored = [onnx.numpy_helper.from_array(value.astype(np.float32), key) for key, value in arrays.items()]
        graph = helper.make_graph([node], "recurrent", inputs, outputs, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def samples(self, steps: int) -> dict[str, Array]:
        """Of `x` with its steps told apart, and of the states."""
        draw = np.random.default_rng(self.seed + 1)
        made = {"x": field(draw, (steps, 1, INPUTS))}
        if self.states:
            made |= {key: field(draw, (self.directions, 1, HIDDEN)) for key in ("h0", "c0")[: len(self.results) - 1]}
        return made

    def step(self, known: dict[str, Array]) -> Step:
        model = as_model(self.proto())
        return recurrent(Site(model, model.nodes[0], known))


def computed(proto: onnx.ModelProto, known: dict[str, Array]) -> list[Array]:
    """What ONNX Runtime makes of the samples, which are its batch, in the layout of samples."""
    feed = {key: values[:, :, 0].swapaxes(0, 1) for key, values in known.items()}
    y, *states = ort.InferenceSession(proto.SerializeToString()).run(None, feed)
    return [np.moveaxis(y, 2, 0)[:, :, :, None], *(np.moveaxis(state, 1, 0)[:, :, None] for state in states)]


@st.composite
def cells(draw: st.DrawFn) -> Recurrent:
    op_type = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    directions = 2 if direction == "bidirectional" else 1
    attributes: dict[str, Any] = {}
    if draw(st.booleans()):
        count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op_type] * directions
        names = draw(st.lists(st.sampled_from(SIMPLE), min_size=count, max_size=count))
        attributes |= {"activations": names, "activation_alpha": [0.3] * count, "activation_beta": [0.2] * count}
        if "Affine" in names or "ThresholdedRelu" in names or op_type == "LSTM":
            attributes["clip"] = 3.0  # what grows along the sequence has no slope to compare
    if op_type == "GRU":
        attributes["linear_before_reset"] = draw(st.sampled_from((0, 1)))
    if op_type == "LSTM":
        attributes["input_forget"] = draw(st.sampled_from((0, 1)))
    return Recurrent(
        op_type,
        direction,
        steps=draw(st.sampled_from((1, 2, 5))),
        states=draw(st.booleans()),
        biased=draw(st.booleans()),
        peepholes=op_type == "LSTM" and draw(st.booleans()),
        attributes=tuple(attributes.items()),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cells())
def test_a_cell_computes_what_the_runtime_does(cell: Recurrent) -> None:
    known = cell.samples(cell.steps or 1)
    for ours, theirs in zip(cell.step(known).outputs, computed(cell.proto(), known), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


SMOOTH = [
    Recurrent("RNN", "bidirectional", states=True),
    Recurrent("GRU", "reverse", states=True, attributes=(("linear_before_reset", 1),)),
    Recurrent("GRU", "bidirectional", states=True),
    Recurrent("LSTM", "forward", states=True, peepholes=True),
    Recurrent("LSTM", "bidirectional", states=True, attributes=(("input_forget", 1),)),
    Recurrent("LSTM", steps=1, states=True),
    Recurrent("GRU", steps=3),
    Recurrent("GRU", steps=None, states=True),
    Recurrent("LSTM", "bidirectional", steps=64),
]
"""The last three with steps that are alike, so that the positions of an image are the steps."""
ALIKE = SMOOTH[-3:]


def samples_of(cell: Recurrent) -> dict[str, Array]:
    return cell.samples(1 if cell in ALIKE else cell.steps or 1)


@pytest.mark.parametrize("cell", SMOOTH, ids=str)
def test_pull_is_the_adjoint_of_a_small_difference(cell: Recurrent) -> None:
    known, draw = samples_of(cell), np.random.default_rng(5)
    step = cell.step(known)
    rows = [draw.normal(size=out.shape).astype(np.float32) for out in step.outputs]
    for key, values in known.items():
        change = draw.normal(size=values.shape).astype(np.float32)
        up, down = (cell.step({**known, key: values + sign * np.float32(1e-2) * change}).outputs for sign in (1, -1))
        seen = sum(np.vdot(r, (a - b) / 2e-2) for r, a, b in zip(rows, up, down, strict=True))
        edges = [edge for edge in step.edges if edge.source == key]
        foreseen = sum(np.vdot(edge.transfer.pull(OutputCost(rows[edge.output])).rows, change) for edge in edges)
        assert foreseen == pytest.approx(seen, rel=2e-2, abs=2e-2)


def test_a_state_may_tell_sequences_apart_that_the_input_does_not() -> None:
    cell = Recurrent("GRU", "bidirectional", steps=2, states=True)
    known = cell.samples(2)
    known["x"] = known["x"][:, :, :1]
    known["h0"] = np.concatenate([known["h0"][:, :, :1], 0.5 * known["h0"][:, :, :1]], axis=2)
    step = cell.step(known)
    for place in (0, 1):
        alone = cell.step({**known, "h0": known["h0"][:, :, place : place + 1]})
        for together, one in zip(step.outputs, alone.outputs, strict=True):
            np.testing.assert_allclose(together[..., place, :], one[..., 0, :], rtol=1e-5, atol=1e-6)
    rows = OutputCost(np.ones_like(step.outputs[0]))
    pulled = {edge.source: edge.transfer.pull(rows).rows.shape for edge in step.edges if edge.output == 0}
    assert pulled == {key: values.shape for key, values in known.items()}


@pytest.mark.parametrize("operand", ["W", "R"])
@pytest.mark.parametrize("cell", SMOOTH, ids=str)
def test_an_error_of_a_weight_costs_what_a_changed_weight_does(cell: Recurrent, operand: str) -> None:
    known, proto = samples_of(cell), cell.proto()
    step = cell.step(known)
    rows = [np.random.default_rng(6).normal(size=out.shape).astype(np.float32) for out in step.outputs]
    (layer,) = find_layers(as_model(proto))
    part = next(part for part in layer.operands if part.operand == operand)
    error = np.random.default_rng(7).normal(size=(part.channels, part.weight_shape[2])).astype(np.float32)
    assert step.reading is not None
    foreseen = step.reading.weight_noise({operand: error}, [OutputCost(row) for row in rows])[operand]
    (place,) = [n for n, tensor in enumerate(proto.graph.initializer) if tensor.name == part.weight]
    changed: list[tuple[Array, ...]] = []
    for sign in (1, -1):
        other = onnx.ModelProto()
        other.CopyFrom(proto)
        value = onnx.numpy_helper.to_array(proto.graph.initializer[place])
        moved = value + sign * np.float32(1e-2) * part.as_stored(error)
        other.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(moved, part.weight))
        model = as_model(other)
        changed.append(recurrent(Site(model, model.nodes[0], known)).outputs)
    products = [(row * (a - b)).reshape(SIZE, -1).sum(axis=1) / 2e-2 for row, a, b in zip(rows, *changed, strict=True)]
    by_image = np.sum(products, axis=0).reshape(IMAGES, POSITIONS).sum(axis=1)
    np.testing.assert_allclose(foreseen, by_image**2, rtol=5e-2, atol=1e-2 * float((by_image**2).mean()))


@pytest.mark.parametrize("op_type", sorted(GATES))
def test_the_forecast_of_a_whole_layer_is_what_a_run_shows(op_type: str) -> None:
    proto = Recurrent(op_type, steps=24).proto()
    del proto.graph.output[1:]
    measured = measure(as_model(proto), (INT8_PER_TENSOR,))
    (layer,) = measured.layers
    told = forecast(noise_model(measured), measured.layers, (INT8_PER_TENSOR,))["int8-per-tensor"].layers[layer.output]
    assert told.weight_share == 0, "the quantiser leaves the operator in float"
    x = np.random.default_rng(3).normal(size=(24, 256, INPUTS)).astype(np.float32)
    exact = ort.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]
    for name, tensor in (("w", proto.graph.initializer[0]), ("r", proto.graph.initializer[1])):
        value = onnx.numpy_helper.to_array(tensor)
        step = np.abs(value).max() / 127
        other = onnx.ModelProto()
        other.CopyFrom(proto)
        place = [tensor.name for tensor in proto.graph.initializer].index(name)
        rounded = (np.round(value / step) * step).astype(np.float32)
        other.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(rounded, name))
        made = ort.InferenceSession(other.SerializeToString()).run(["y"], {"x": x})[0]
        seen = 10 * np.log10(np.square(exact).sum() / np.square(made - exact).sum())
        assert told.operands[name.upper()] == pytest.approx(seen, abs=3.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": 4, "direction": "bidirectional"}, "do not fit together"),
        ({"activations": ["Tanh"]}, "too few activations"),
        ({"activations": ["Tanh", "Wavelet"]}, "unknown"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], reason: str) -> None:
    proto = Recurrent("GRU").proto()
    node = proto.graph.node[0]
    kept = [attribute for attribute in node.attribute if attribute.name not in change]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(key, value) for key, value in change.items())])
    measured = measure(as_model(proto), (INT8_PER_TENSOR,))
    unknown = forecast(noise_model(measured), measured.layers, (INT8_PER_TENSOR,))["int8-per-tensor"].unknown
    assert reason in unknown["GRU"]


def test_a_state_without_an_operator_of_its_own_is_what_comes_out_as_the_next_one() -> None:
    random = np.random.default_rng(0)
    model = as_model(
        onnx_text(
            "g (float[1, 16] x, float[1, 8] s) => (float[1, 4] y, float[1, 8] t) "
            "{ a = MatMul(x, v)  b = MatMul(s, w)  c = Add(a, b)  t = Tanh(c)  y = MatMul(t, u) }",
            v=random.standard_normal((16, 8)).astype(np.float32),
            w=random.standard_normal((8, 8)).astype(np.float32),
            u=random.standard_normal((8, 4)).astype(np.float32),
        )
    )
    samples = propagate(model, fold_batch_norms(model, list(find_layers(model))).layers).samples
    assert samples["s"].shape == samples["t"].shape and np.abs(samples["s"]).max() <= 1
    assert samples["s"].std() == pytest.approx(float(samples["t"].std()), rel=0.1)
    # What a model is about is no state, however much an output looks like it.
    assert np.abs(samples["x"]).max() > 2
