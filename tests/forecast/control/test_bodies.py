"""The bodies of Loop and Scan in the forecast, against the operators and graphs that compute the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text, run, sqnr_db

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.forecast.forecast import Forecast, forecast
from onnxlint_q.forecast.forward import RULES, propagate
from onnxlint_q.forecast.network import NoiseModel, noise_model
from onnxlint_q.forecast.operators import elementwise
from onnxlint_q.forecast.step import Site, Step

INPUTS, HIDDEN, CLASSES = 6, 16, 4
CELL = "a = MatMul(s, w)  b = MatMul(h, r)  c = Add(a, b)  next = Tanh(c)"
HEAD = "y = MatMul(e, o)"
RECURRENT = "q, l = RNN <hidden_size = 16, {direction}> (x, rw, rr)  e = Squeeze(q, one)"
SCAN = (
    "l, e = Scan <num_scan_inputs = 1, {direction} body = step (float[N, 16] h, float[N, 6] s)"
    " => (float[N, 16] next, float[N, 16] out) {{ " + CELL + " out = Identity(next) }}> (zero, x)"
)
LOOP = (
    "l, e = Loop <body = step (int64 i, bool t, float[N, 16] h) => (bool u, float[N, 16] next, float[N, 16] out)"
    " {{ s = Gather(x, i) " + CELL + " out = Identity(next)  u = Identity(t) }}> (trips, , zero)"
)
LIST = (
    "none = SequenceEmpty()  all, l = Loop <body = step (int64 i, bool t, seq(float) before, float[N, 16] h)"
    " => (bool u, seq(float) after, float[N, 16] next)"
    " {{ s = Gather(x, i) " + CELL + " after = SequenceInsert(before, next)  u = Identity(t) }}> (trips, , none, zero)"
    " e = ConcatFromSequence <axis = 0, new_axis = 1> (all)"
)
BUFFER = (
    "last, all, l = Loop <body = step (int64 i, bool t, int64 n, float[{steps}, N, 16] before, float[N, 16] h)"
    " => (bool u, int64 m, float[{steps}, N, 16] after, float[N, 16] next)"
    " {{ s = Gather(x, n) " + CELL + " row = Unsqueeze(next, first)  flat = Reshape(n, once)"
    " after = ScatterND(before, flat, row)  m = Add(n, single)  u = Less(m, trips) }}> (many, true, start, empty, zero)"
    " e = Identity(all)"
)
WRITTEN = {
    "Scan": SCAN.format(direction=""),
    "Loop": LOOP.format(),
    "list": LIST.format(),
    "buffer": BUFFER,
}


def weights() -> dict[str, Array]:
    draw = np.random.default_rng(0)
    arrays = {
        "w": draw.normal(0, 0.4, (INPUTS, HIDDEN)),
        "r": draw.normal(0, 0.15, (HIDDEN, HIDDEN)),
        "o": draw.normal(0, 0.25, (HIDDEN, CLASSES)),
        "zero": np.zeros((1, HIDDEN)),
    }
    return {key: value.astype(np.float32) for key, value in arrays.items()}


def network(body: str, steps: int, head: str = HEAD, result: str = "") -> onnx.ModelProto:
    body = body.replace("{steps}", str(steps)).replace("{{", "{").replace("}}", "}")
    arrays: dict[str, Array] = {**weights(), "one": np.array([1]), "trips": np.array(steps)}
    arrays |= {"rw": arrays["w"].T[None], "rr": arrays["r"].T[None]}
    arrays |= {"first": np.array([0]), "once": np.array([1, 1]), "single": np.array(1), "many": np.array(1 << 30)}
    arrays |= {"true": np.array(True), "start": np.array(0), "empty": np.zeros((steps, 1, HIDDEN), np.float32)}
    arrays = {key: value for key, value in arrays.items() if re.search(rf"\b{key}\b", body + head)}
    result = result or f"float[{steps}, N, 4] y"
    made = onnx_text(f"g (float[{steps}, N, 6] x) => ({result}) {{ {body}  {head} }}", **arrays)
    return onnx.shape_inference.infer_shapes(made)


def told(proto: onnx.ModelProto) -> tuple[NoiseModel, Forecast]:
    measured = measure(as_model(proto), (INT8_PER_TENSOR,))
    network = noise_model(measured)
    made = forecast(network, measured.layers, (INT8_PER_TENSOR,))["int8-per-tensor"]
    assert not made.failures and not made.unknown
    return network, made


def figures(made: Forecast) -> Mapping[str, float | None]:
    """Of the two weights of the cell and of the head, whatever the cell is."""
    rows = {key.rpartition("/")[2]: row for key, row in made.layers.items()}
    cell = rows.pop("q", None)
    found = {key: row.weight_sqnr_db for key, row in rows.items()}
    return found if cell is None else {**found, "a": cell.operands["W"], "b": cell.operands["R"]}


@pytest.mark.parametrize("steps", [20, 3, 1])
@pytest.mark.parametrize("written", WRITTEN)
def test_a_cell_in_a_body_is_told_what_the_operator_is(written: str, steps: int) -> None:
    ours, theirs = (
        told(network(body, steps))[1]
        for body in (WRITTEN[written], RECURRENT.format(direction='direction = "forward"'))
    )
    assert figures(ours) == pytest.approx(figures(theirs), abs=0.2)
    # Of what a list or a buffer holds it is not known that it lies between -1 and 1.
    assert ours.output_sqnr_db == pytest.approx(theirs.output_sqnr_db, abs=1 if written in {"list", "buffer"} else 0.2)


def test_a_scan_that_goes_backward_is_told_what_the_operator_is() -> None:
    backward = "scan_input_directions = [1], scan_output_directions = [1],"
    ours, theirs = (
        told(network(body, 3))[1]
        for body in (SCAN.format(direction=backward), RECURRENT.format(direction='direction = "reverse"'))
    )
    assert figures(ours) == pytest.approx(figures(theirs), abs=0.2)


def test_what_a_body_leaves_is_what_its_last_step_makes() -> None:
    head, result = "y = MatMul(l, o)", "float[N, 4] y"
    ours, theirs = (
        told(network(body, 20, head if "Scan" in body else "m = Squeeze(l, first)  y = MatMul(m, o)", result))[1]
        for body in (
            WRITTEN["Scan"],
            RECURRENT.format(direction='direction = "forward"'),
        )
    )
    assert figures(ours) == pytest.approx(figures(theirs), abs=0.2)


def test_the_figures_are_those_of_a_run() -> None:
    proto = network(WRITTEN["Scan"], 20)
    made = figures(told(proto)[1])
    x = np.random.default_rng(1).standard_normal((50, 20, 1, INPUTS)).astype(np.float32)
    wanted = np.stack([run(proto, {"x": each})[0] for each in x])
    for result, name in (("a", "w"), ("b", "r"), ("y", "o")):
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        (stored,) = (tensor for tensor in changed.graph.initializer if tensor.name == name)
        values = onnx.numpy_helper.to_array(stored)
        step = np.abs(values).max() / 127
        stored.CopyFrom(onnx.numpy_helper.from_array(np.asarray(np.round(values / step) * step, np.float32), name))
        moved = np.stack([run(changed, {"x": each})[0] for each in x])
        assert made[result] == pytest.approx(sqnr_db(wanted, moved), abs=2.5)


REFINED = """
g (float[N, 16] x) => (float[N, 4] y) {
  m = MatMul(x, r)
  l = Loop <body = step (int64 i, bool t, float[N, 16] h) => (bool u, float[N, 16] next) {
    b = MatMul(h, r) c = Tanh(b) next = Sub(h, c) u = Identity(t) }> (trips, , m)
  y = MatMul(l, o)
}
"""


def test_a_body_that_goes_along_nothing_is_run_as_often_as_it_says() -> None:
    arrays = weights()
    once = "b{n} = MatMul(h{n}, r)  c{n} = Tanh(b{n})  h{after} = Sub(h{n}, c{n})"
    straight = "  ".join(once.format(n=n, after=n + 1) for n in range(3))
    body = f"h0 = MatMul(x, r)  {straight}  y = MatMul(h3, o)"
    plain, _ = told(onnx_text(f"g (float[N, 16] x) => (float[N, 4] y) {{ {body} }}", **arrays))
    looped, made = told(onnx.shape_inference.infer_shapes(onnx_text(REFINED, trips=np.array(3), **arrays)))
    np.testing.assert_allclose(looped.propagation.samples["l"], plain.propagation.samples["h3"], rtol=1e-4, atol=1e-5)
    assert 10 * np.log10(looped.costs["m"].white.mean() / plain.costs["h0"].white.mean()) == pytest.approx(0, abs=1)
    assert figures(made)["b"] is not None


@pytest.mark.parametrize("length", [20, 8])
def test_bodies_in_bodies_are_gone_through_a_bounded_number_of_times(length: int) -> None:
    inner, held = "", 0
    for depth in reversed(range(length)):
        result = f"n{depth}"
        core = inner or f"c{depth} = Tanh(h{depth})  {result} = Identity(c{depth})"
        inner = (
            f"r{depth} = Loop <body = b{depth} (int64 i{depth}, bool t{depth}, float[N, 16] h{depth})"
            f" => (bool u{depth}, float[N, 16] {result}) {{ {core}  u{depth} = Identity(t{depth}) }}>"
            f" (trips, , {'x' if not depth else f'h{depth - 1}'})"
        )
        inner += f"  n{depth - 1} = Identity(r{depth})" if depth else "  y = MatMul(r0, o)"

    def counted(site: Site) -> Step:
        nonlocal held
        held += 1
        return elementwise.RULES["Tanh"](site)

    proto = onnx_text(f"g (float[N, 16] x) => (float[N, 4] y) {{ {inner} }}", trips=np.array(50), **weights())
    found = propagate(as_model(proto), [], {**RULES, "Tanh": counted})
    assert "y" not in found.unknown and 0 < held <= 64


def test_a_body_of_which_nothing_is_known_is_named() -> None:
    proto = onnx_text(
        """
        g (float[N, 16] x) => (float[N, 4] y) {
          l = Loop <body = step (int64 i, bool t, float[N, 16] h) => (bool u, float[N, 16] next)
            { next = NoSuchOperator(none) u = Identity(t) }> (trips, , x)
          y = MatMul(l, o)
        }
        """,
        trips=np.array(3),
        none=np.zeros(1, np.float32),
        **weights(),
    )
    assert propagate(as_model(proto), []).unknown["Loop"] == "nothing is known of what its body makes"
