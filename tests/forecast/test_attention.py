"""Attention: the tokens of a sequence are kept apart, so that it is what it is when the network runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_cases import Array, as_model, onnx_text, versioned_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.outputs.output_kind import find_outputs
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.forecast.backward import SETTLED_DB, output_costs
from onnxlint_q.forecast.ends import find_ends
from onnxlint_q.forecast.forecast import Forecast, forecast
from onnxlint_q.forecast.forward import Propagation, propagate
from onnxlint_q.forecast.inputs.tokens import positions_for, token_inputs
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.forecast.operators.products import product
from onnxlint_q.forecast.population import IMAGES, POSITIONS, SIZE, Samples, per_image
from onnxlint_q.forecast.step import Site
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import Model, find_layers
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.rewrite.mask_values import apply

WORDS, WIDTH, HEADS = 50, 16, 4
HEAD = """
    e = Gather(table, ids)  w = Add(e, places)
    q = MatMul(w, wq)  k = MatMul(w, wk)  v = MatMul(w, wv)
    q4 = Reshape(q, apart)  k4 = Reshape(k, apart)  v4 = Reshape(v, apart)
    qt = Transpose <perm = [0, 2, 1, 3]> (q4)
    kt = Transpose <perm = [0, 2, 3, 1]> (k4)
    vt = Transpose <perm = [0, 2, 1, 3]> (v4)
    s = MatMul(qt, kt)
"""
TAIL = """
    a = MatMul(p, vt)
    t = Transpose <perm = [0, 2, 1, 3]> (a)
    m = Reshape(t, together)
    o = MatMul(m, wo)
    r = Add(o, w)
"""
ADDED = """
    u1 = Unsqueeze(mask, axes)  u = Cast <to = 1> (u1)  i = Sub(one, u)  far = Mul(i, lowest)
    g = Add(s, far)  p = Softmax <axis = 3> (g)
"""
CHOSEN = "u = Unsqueeze(mask, axes)  g = Where(u, lowest, s)  p = Softmax <axis = 3> (g)"
CAUSAL = "g = Add(s, triangle)  p = Softmax <axis = 3> (g)"


def arrays(tokens: int) -> dict[str, Array]:
    draw = np.random.default_rng(0)

    def weight(*shape: int, size: float = 0.3) -> Array:
        return np.asarray(draw.standard_normal(shape) * size, np.float32)

    return {
        "table": weight(WORDS, WIDTH, size=1.0),
        "places": weight(tokens, WIDTH, size=0.5),
        **{name: weight(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")},
        "apart": np.array([0, 0, HEADS, WIDTH // HEADS]),
        "together": np.array([0, 0, WIDTH]),
        "axes": np.array([1, 2]),
        "one": np.array(1, np.float32),
        "lowest": np.array(-3.4e38, np.float32),
        "triangle": np.triu(np.full((tokens, tokens), -1e4, np.float32), 1)[None, None],
        "zero": np.array(0),
        "first": np.array([0]),
        "second": np.array([1]),
    }


def network(attend: str, end: str = "y = Identity(r)", tokens: int = POSITIONS, mask: str = "int64") -> Model:
    inputs = f"int64[1, {tokens}] ids" + f", {mask}[1, {tokens}] mask" * ("mask" in attend)
    text = f"g ({inputs}) => (float[N, M, K] y) {{ {HEAD} {attend} {TAIL} {end} }}"
    text = text.replace("float[N, M, K] y", "float y") if "Gather" in end else text
    proto = versioned_text(17, "", text, **{k: v for k, v in arrays(tokens).items() if k in text})
    return as_model(onnx.shape_inference.infer_shapes(proto))


def propagated(model: Model, positions: int = POSITIONS) -> Propagation:
    found = propagate(model, fold_batch_norms(model, list(find_layers(model))).layers, positions=positions)
    assert not found.unknown and not found.failures
    return found


def run(model: Model, ids: Array, **others: Any) -> Array:
    session = ort.InferenceSession(model.proto.SerializeToString())
    rows = [session.run(None, {"ids": row[None], **others})[0][0] for row in ids]
    return np.asarray(rows)


@pytest.mark.parametrize("attend", ["p = Softmax <axis = 3> (s)", CAUSAL], ids=["all", "causal"])
def test_a_sequence_as_long_as_an_image_has_positions_is_computed_as_it_runs(attend: str) -> None:
    model = network(attend)
    samples = propagated(model).samples
    ids = samples["ids"].reshape(IMAGES, POSITIONS).astype(np.int64)
    assert set(np.unique(ids)) <= set(range(WORDS)) and len(np.unique(ids)) > WORDS / 2
    np.testing.assert_allclose(samples["y"].reshape(IMAGES, POSITIONS, WIDTH), run(model, ids), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("tokens", "positions"), [(4, 8), (20, 20), (24, 24), (300, 24)])
def test_each_token_has_a_position_of_its_own_as_far_as_there_is_room(tokens: int, positions: int) -> None:
    model = network(CAUSAL, tokens=tokens)
    layers = fold_batch_norms(model, list(find_layers(model))).layers
    assert positions_for(model, layers) == positions
    samples = noise_model(measure(model, (INT8_PER_TENSOR,))).propagation.samples
    assert len(samples["ids"]) == IMAGES * positions
    if positions == tokens:
        ids = samples["ids"].reshape(IMAGES, tokens).astype(np.int64)
        np.testing.assert_allclose(samples["y"].reshape(IMAGES, tokens, WIDTH), run(model, ids), rtol=1e-3, atol=1e-4)


def test_what_a_token_reaches_is_what_calibration_sees_of_it() -> None:
    """No more: the samples are as many as those of a calibration set, and need not be Gaussian."""
    network_noise = noise_model(measure(network(CAUSAL, tokens=24), (INT8_PER_TENSOR,)))
    for key in ("w", "q", "r"):
        seen = network_noise.propagation.samples[key]
        assert network_noise.ranges[key] == pytest.approx((seen.min(), seen.max()), rel=1e-5)


def test_tokens_of_a_long_sequence_are_its_first() -> None:
    """Neighbours, as many as there are positions; the last token is the last position."""
    model = network(CAUSAL, tokens=300)
    samples = propagated(model, positions=24).samples
    ids = np.zeros((IMAGES, 300), np.int64)
    ids[:, :24] = samples["ids"].reshape(IMAGES, 24)
    told = samples["y"].reshape(IMAGES, 24, WIDTH)
    np.testing.assert_allclose(told, run(model, ids)[:, :24], rtol=1e-3, atol=1e-4)
    site = Site(model, model.nodes[-1], {"r": samples["r"]})
    assert [site.position(1, place) for place in (0, 5, 100, 298, -1)] == [0, 5, 23, 22, 23]


@pytest.mark.parametrize(("end", "positions"), [("y = MatMul(p, x)", 20), ("y = Mul(p, x)", POSITIONS)])
def test_only_a_softmax_that_weighs_tokens_makes_tokens(end: str, positions: int) -> None:
    text = f"g (float[20, 20] x) => (float[20, 20] y) {{ p = Softmax(x)  {end} }}"
    model = as_model(onnx.shape_inference.infer_shapes(versioned_text(17, "", text)))
    assert positions_for(model, ()) == positions


CLASS_TOKEN = """
    c = Conv <strides = [4, 4]> (x, kernel)
    f = Reshape(c, flat)  t = Transpose <perm = [0, 2, 1]> (f)
    w = Concat <axis = 1> (token, t)  z = Add(w, places)
    y = Identity(z)
"""


def test_a_class_token_stands_in_front_of_the_places_of_a_picture() -> None:
    """The batch has any size in one shape and one in the other, which is no reason to take all places for equal."""
    draw = np.random.default_rng(0)
    values = {
        "kernel": draw.standard_normal((6, 1, 4, 4)).astype(np.float32),
        "flat": np.array([1, 6, 16]),
        "token": np.full((1, 1, 6), 7, np.float32),
        "places": np.zeros((1, 17, 6), np.float32),
    }
    text = f"g (float[N, 1, 16, 16] x) => (float[N, 17, 6] y) {{ {CLASS_TOKEN} }}"
    model = as_model(onnx.shape_inference.infer_shapes(versioned_text(17, "", text, **values)))
    samples = propagated(model, positions=17).samples
    assert samples["y"].shape == (IMAGES * 17, 1, 1, 6)
    told = samples["y"].reshape(IMAGES, 17, 6)
    assert (told[:, 0] == 7).all()
    np.testing.assert_array_equal(told[:, 1:], samples["c"].reshape(IMAGES, 17, 6)[:, 1:])


@pytest.mark.parametrize(
    ("attend", "kind", "kept"), [(ADDED, "int64", 1), (CHOSEN, "bool", False)], ids=["added", "chosen"]
)
def test_a_mask_rules_nothing_out_and_its_lowest_number_is_in_the_range(attend: str, kind: str, kept: int) -> None:
    model = network(attend, mask=kind)
    tokens = token_inputs(model)
    assert (tokens.settled["mask"] == kept).all()
    found = propagated(model)
    ids = found.samples["ids"].reshape(IMAGES, POSITIONS).astype(np.int64)
    wanted = run(model, ids, mask=np.full((1, POSITIONS), kept, tokens.settled["mask"].dtype))
    np.testing.assert_allclose(found.samples["y"].reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-4)
    network_noise = noise_model(measure(model, (INT8_PER_TENSOR,)))
    assert network_noise.floors == {"g": pytest.approx(-3.4e38)} and network_noise.ranges["g"][0] > -100


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("f = Cast <to = 1> (m)  u = Unsqueeze(f, last)  y = Mul(x, u)", True),
        ("n = Not(m)  f = Cast <to = 1> (n)  u = Unsqueeze(f, last)  y = Mul(u, x)", False),
        ("f = Cast <to = 1> (m)  u = Unsqueeze(f, last)  y = Add(x, u)", None),
    ],
    ids=["what counts", "padding", "a number"],
)
def test_a_mask_that_multiplies_lets_everything_through(body: str, kept: bool | None) -> None:
    text = f"g (float[1, 8, 6] x, bool[1, 8] m) => (float[1, 8, 6] y) {{ {body} }}"
    settled = token_inputs(as_model(versioned_text(17, "", text, last=np.asarray([2])))).settled
    assert settled.keys() == ({"m"} if kept is not None else set())
    assert all((value == kept).all() for value in settled.values())


@pytest.mark.parametrize(
    ("kind", "body", "length"),
    [
        ("int64[N] n", "m = Less(places, u)", 12),
        ("int32[1] n", "w = Cast <to = 7> (u)  m = GreaterOrEqual(w, places)", 12),
        ("int64[N] n", "t = Add(u, places)  m = Equal(t, places)", None),
        ("int64[N] n", "m = Less(five, u)", None),
        ("float[N] n", "w = Cast <to = 7> (u)  m = Less(places, w)", None),
    ],
    ids=["positions before it", "another type", "another use", "a threshold", "no integers"],
)
def test_lengths_are_those_of_the_longest_sequence(kind: str, body: str, length: int | None) -> None:
    text = f"""g (int64[N, 12] ids, {kind}) => (float[N, 12, 4] y) {{
        e = Gather(table, ids)  u = Unsqueeze(n, last)  {body}
        f = Cast <to = 1> (m)  g = Unsqueeze(f, end)  y = Mul(e, g)
    }}"""
    held = {"last": np.asarray([1]), "end": np.asarray([2]), "places": np.arange(12)[None]}
    held |= {"five": np.asarray([5])} if "five" in body else {}
    table = np.random.default_rng(4).standard_normal((9, 4)).astype(np.float32)
    model = as_model(onnx.shape_inference.infer_shapes(versioned_text(17, "", text, table=table, **held)))
    settled = token_inputs(model).settled
    assert ("n" in settled) == (length is not None)
    assert length is None or (settled["n"] == length).all()
    assert length is None or propagated(model).unknown == {}


def test_where_one_token_is_read_the_others_matter_through_attention_alone() -> None:
    one = network("p = Softmax <axis = 3> (s)", "c = Gather <axis = 1> (r, zero)  y = Identity(c)")
    found = propagated(one)
    ids = found.samples["ids"].reshape(IMAGES, POSITIONS).astype(np.int64)
    np.testing.assert_allclose(found.samples["y"][::POSITIONS, 0], run(one, ids), rtol=1e-3, atol=1e-4)
    cut = network("p = Softmax <axis = 3> (s)", "y = Slice(r, first, second, second)")
    np.testing.assert_array_equal(propagated(cut).samples["y"].reshape(SIZE, -1), found.samples["y"].reshape(SIZE, -1))


def test_queries_and_keys_cost_what_they_cost_when_the_network_runs() -> None:
    """On the very same sequences: the rounded weight of one layer, in the file and forecast."""
    model = network("p = Softmax <axis = 3> (s)")
    file = measure(model, (INT8_PER_TENSOR,))
    told: Forecast = forecast(noise_model(file), file.layers, (INT8_PER_TENSOR,))[INT8_PER_TENSOR.name]
    ids = propagated(model).samples["ids"].reshape(IMAGES, POSITIONS).astype(np.int64)
    wanted = run(model, ids).astype(np.float64)
    for layer in file.layers:
        proto = onnx.ModelProto()
        proto.CopyFrom(model.proto)
        stored = next(t for t in proto.graph.initializer if t.name == layer.folded.layer.weight)
        weight = onnx.numpy_helper.to_array(stored)
        step = np.abs(weight).max() / 127
        stored.CopyFrom(
            onnx.numpy_helper.from_array(np.asarray(np.rint(weight / step) * step, np.float32), stored.name)
        )
        error = run(as_model(proto), ids) - wanted
        measured = 10 * np.log10((wanted**2).sum() / (error**2).sum())
        # Noise in front of an attention is taken for less than it is on random sequences.
        assert told.layers[layer.output].weight_sqnr_db == pytest.approx(measured, abs=3.0), layer.output


MATRICES = {
    "queries meet keys": ((HEADS, 1, 6), (HEADS, 6, 1), (1, HEADS, 20, 6), (1, HEADS, 6, 20)),
    "few keys": ((HEADS, 1, 6), (HEADS, 6, 1), (1, HEADS, 5, 6), (1, HEADS, 6, 5)),
    "keys meet values": ((HEADS, 1, 8), (HEADS, 1, 6), (1, HEADS, 20, 20), (1, HEADS, 20, 6)),
    "values meet keys": ((HEADS, 6, 1), (HEADS, 8, 1), (1, HEADS, 6, 20), (1, HEADS, 20, 20)),
    "tokens are summed up": ((HEADS, 6, 1), (HEADS, 1, 6), (1, HEADS, 6, 20), (1, HEADS, 20, 6)),
    "one head of keys": ((HEADS, 1, 6), (1, 6, 1), (1, HEADS, 20, 6), (1, 1, 6, 20)),
    "no tokens": ((HEADS, 3, 6), (HEADS, 6, 5), (1, HEADS, 3, 6), (1, HEADS, 6, 5)),
}


@pytest.mark.parametrize("case", MATRICES)
def test_the_adjoint_of_a_product_is_its_slope(case: str) -> None:
    apart_left, apart_right, left, right = MATRICES[case]
    text = f"g (float[{shaped(left)}] a, float[{shaped(right)}] b) => (float[N, H, I, J] y) {{ y = MatMul(a, b) }}"
    model = as_model(versioned_text(17, "", text))
    draw = np.random.default_rng(0)

    def drawn(shape: tuple[int, ...]) -> Samples:
        return np.asarray(draw.standard_normal((SIZE, *shape)), np.float32)

    values = {"a": drawn((1, *apart_left)), "b": drawn((1, *apart_right))}

    def pushed(held: dict[str, Samples]) -> Samples:
        return product(Site(model, model.nodes[0], held)).outputs[0].astype(np.float64)

    step = product(Site(model, model.nodes[0], values))
    rows = drawn(step.outputs[0].shape[1:])
    for edge in step.edges:
        change = drawn(values[edge.source].shape[1:])
        up, down = ({**values, edge.source: values[edge.source] + s * change} for s in (1, -1))
        slope = float(((pushed(up) - pushed(down)) / 2 * rows).sum())
        back = edge.transfer.pull(OutputCost(rows)).rows
        assert back.shape == change.shape
        assert float((back.astype(np.float64) * change).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-2 * abs(slope))


def shaped(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def test_a_mask_that_is_added_costs_int8_its_attention() -> None:
    """The step is so long that all scores are rounded to zero, and every token attends to all others alike."""
    schemes = (INT8_PER_TENSOR, SCHEMES["int16-activations"])
    lost, kept = (
        forecast(noise_model(file), file.layers, schemes)
        for file in (measure(network(attend, tokens=32), schemes) for attend in (ADDED, "p = Softmax <axis = 3> (s)"))
    )
    for scheme in schemes:
        masked, plain = (told[scheme.name].output_sqnr_db for told in (lost, kept))
        assert masked is not None and plain is not None and masked < 12 < plain - 12


@pytest.mark.parametrize(("attend", "tokens"), [(ADDED, 32), (CAUSAL, POSITIONS), (CAUSAL, 32)])
def test_what_a_smaller_mask_would_do_is_what_the_file_with_it_is_forecast(attend: str, tokens: int) -> None:
    schemes = (INT8_PER_TENSOR, SCHEMES["int16-activations"])
    facts = facts_of(network(attend, tokens=tokens), schemes)
    assert facts.unmasked is not None
    made = facts_of(apply(facts.model, facts.unmasked.candidates.values()), schemes)
    for scheme in schemes:
        asked, told = facts.unmasked.forecasts[scheme.name], made.forecasts[scheme.name]
        assert asked.output_sqnr_db == pytest.approx(told.output_sqnr_db, abs=0.3)
    before, after = (one[INT8_PER_TENSOR.name].output_sqnr_db for one in (facts.forecasts, facts.unmasked.forecasts))
    assert before is not None and after is not None and before < 15 < after - 5


def test_noise_settles_on_its_way_through_attentions_of_sequences_that_were_made_up() -> None:
    model = network("p = Softmax <axis = 3> (s)")
    found = propagated(model)
    ends = find_ends(find_outputs(model), found.samples)
    costs, _ = output_costs(model, found, ends)
    raw, _ = output_costs(model, replace(found, invented=False), ends)
    for key, attentions in (("q", 1), ("w", 1), ("vt", 0), ("y", 0)):
        assert 10 * np.log10(raw[key].white / costs[key].white) == pytest.approx(SETTLED_DB * attentions, abs=1e-3)


def test_a_rotation_of_tokens_is_that_of_each_place_even_where_no_length_is_known() -> None:
    """What is sliced to a computed length has no known shape; the constant beside it tells the places."""
    places = np.linspace(-1, 1, 24 * 8).reshape(1, 24, 8).astype(np.float32)
    model = as_model(
        onnx_text(
            "g (int64[N, 24] ids) => (y) { x = Gather(words, ids)  s = Shape(x)  n = Gather(s, last)  h = Div(n, two)  "
            "a = Slice(x, zero, h, last)  c = Cos(places)  y = Mul(a, c) }",
            words=np.random.default_rng(0).standard_normal((30, 16)).astype(np.float32),
            places=places,
            last=np.asarray([2]),
            two=np.asarray([2]),
            zero=np.asarray([0]),
        )
    )
    samples = propagate(model, [], positions=24).samples
    a, y = (per_image(samples[key]).reshape(IMAGES, 24, 8) for key in ("a", "y"))
    np.testing.assert_allclose(y, a * np.cos(places), rtol=1e-5, atol=1e-6)


def test_an_operator_without_a_rule_has_as_many_samples_as_there_are_tokens() -> None:
    model = as_model(onnx_text('g (float[1, 24, 16] x) => (y) { a = Unheard <domain = "odd"> (x)  y = Add(x, a) }'))
    assert {len(made) for made in propagate(model, [], positions=24).samples.values()} == {24 * IMAGES}
