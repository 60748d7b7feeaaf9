"""A fused operator written out computes what the operator computes, and a fused network is told what the other is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx_cases import Array, as_model
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.forecast.forecast import forecast
from onnxlint_q.forecast.fused.expansion import RULES, expanded
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.graph import Model
from onnxlint_q.graph.operators import MICROSOFT

BATCH, TOKENS, WIDTH, HEADS = 2, 5, 64, 4
SIZE = WIDTH // HEADS
X = (BATCH, TOKENS, WIDTH)
APART = (BATCH, HEADS, TOKENS, SIZE)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed + sum(shape)).standard_normal(shape), np.float32)


ANGLES = np.outer(np.arange(32), 1 / 10 ** np.linspace(0, 2, SIZE // 2)).astype(np.float32)
ROTARY = {"cos": np.cos(ANGLES), "sin": np.sin(ANGLES)}
IDS = np.random.default_rng(0).integers(0, 20, (BATCH, TOKENS)).astype(np.int32)
KEPT = np.array([[1] * TOKENS, [1, 1, 1, 0, 0]], np.int32)
GAIN = {"gain": drawn(WIDTH, seed=1), "shift": drawn(WIDTH, seed=2)}
TABLES = {"words": drawn(20, WIDTH), "at": drawn(8, WIDTH), "kinds": drawn(2, WIDTH), **GAIN}
QKV = {"w": drawn(WIDTH, 3 * WIDTH) * np.float32(0.3), "c": drawn(3 * WIDTH)}
GROUPED = {"num_heads": HEADS, "kv_num_heads": 2}
PAST = {f"past_{one}": np.zeros((BATCH, 2, 0, SIZE), np.float32) for one in ("key", "value")}
LENGTHS = {"last": np.full(BATCH, TOKENS - 1, np.int32), "total": np.array(TOKENS, np.int32)}


@dataclass(frozen=True)
class Case:
    """One use of an operator; `fed` are inputs of the model, `held` constants."""

    op_type: str
    inputs: str
    fed: Mapping[str, Array]
    held: Mapping[str, Array] = field(default_factory=dict)
    domain: str = MICROSOFT
    outputs: str = "y"
    opset: int = 17
    attributes: Mapping[str, Any] = field(default_factory=dict)


def on_x(op_type: str, inputs: str = "x", held: Mapping[str, Array] | None = None, **how: Any) -> Case:
    return Case(op_type, inputs, {"x": drawn(*X)}, held or {}, **how)


THREE = {"q": drawn(*X, seed=3), "k": drawn(*X, seed=4), "v": drawn(*X, seed=5)}
NARROW = {"q": THREE["q"], "k": THREE["k"][..., : 2 * SIZE], "v": THREE["v"][..., : 2 * SIZE]}
SPLIT = {one: drawn(*APART, seed=n) for n, one in enumerate("qkv")}
CASES = (
    on_x("LayerNormalization", "x gain shift", GAIN, domain="", opset=16),
    on_x("SimplifiedLayerNormalization", "x gain", {"gain": GAIN["gain"]}, domain=""),
    on_x("RMSNormalization", "x gain", {"gain": GAIN["gain"]}, domain="", opset=23),
    Case(
        "SkipLayerNormalization",
        "x k gain shift c",
        {"x": drawn(*X), "k": THREE["k"]},
        GAIN | {"c": drawn(WIDTH)},
        outputs="y   s",
    ),
    Case("SkipLayerNormalization", "x k gain", {"x": drawn(*X), "k": THREE["k"]}, {"gain": GAIN["gain"]}, opset=14),
    Case("SkipSimplifiedLayerNormalization", "x k gain", {"x": drawn(*X), "k": THREE["k"]}, {"gain": GAIN["gain"]}),
    on_x("Gelu"),
    on_x("BiasGelu", "x c", {"c": drawn(WIDTH)}),
    on_x("FastGelu", "x c", {"c": drawn(WIDTH)}),
    on_x("FastGelu"),
    on_x("QuickGelu", attributes={"alpha": 1.5}),
    Case("EmbedLayerNormalization", "i j words at kinds gain shift", {"i": IDS, "j": KEPT}, TABLES, outputs="y m"),
    Case("FusedMatMul", "x k", {"x": drawn(*X), "k": THREE["k"]}, attributes={"transB": 1, "alpha": 0.5}),
    on_x("FusedMatMul", "x w", {"w": drawn(7, WIDTH)}, attributes={"transB": 1}),
    *(
        Case("Einsum", "q k", {"q": SPLIT["q"], "k": SPLIT["k"]}, domain="", attributes={"equation": equation})
        for equation in ("bhid,bhjd->bhij", "bhid, bhjd -> bihj")
    ),
    on_x("Einsum", "x w", {"w": drawn(WIDTH, HEADS, SIZE)}, domain="", attributes={"equation": "bte,ehd->bthd"}),
    Case(
        "Einsum",
        "t w",
        {"t": SPLIT["q"].transpose(0, 2, 1, 3)},
        {"w": drawn(HEADS, SIZE, 7)},
        domain="",
        attributes={"equation": "bthd,hde->bte"},
    ),
    on_x("Attention", "x w c", QKV, attributes={"num_heads": HEADS}),
    on_x("Attention", "x w c", QKV, attributes={"num_heads": HEADS, "unidirectional": 1}),
    Case("Attention", "x w c m", {"x": drawn(*X), "m": KEPT}, QKV, attributes={"num_heads": HEADS}),
    Case("MultiHeadAttention", "q k v", THREE, attributes={"num_heads": HEADS}),
    Case("MultiHeadAttention", "q k v c m", {**THREE, "m": KEPT}, {"c": QKV["c"]}, attributes={"num_heads": HEADS}),
    Case(
        "GroupQueryAttention",
        "q k v past_key past_value last total",
        {**NARROW, **PAST},
        LENGTHS,
        outputs="y nk nv",
        attributes=GROUPED,
    ),
    Case(
        "GroupQueryAttention",
        "q k v past_key past_value last total cos sin",
        {**NARROW, **PAST},
        LENGTHS | ROTARY,
        outputs="y nk nv",
        attributes=GROUPED | {"do_rotary": 1},
    ),
    Case(
        "GroupQueryAttention",
        "p - - past_key past_value last total",
        {"p": drawn(BATCH, TOKENS, 2 * WIDTH), **PAST},
        LENGTHS,
        outputs="y nk nv",
        attributes=GROUPED,
    ),
    Case("RotaryEmbedding", "q at cos sin", {"q": SPLIT["q"], "at": np.arange(TOKENS)[None].repeat(BATCH, 0)}, ROTARY),
    Case(
        "RotaryEmbedding",
        "x cos sin at",
        {"x": drawn(*X), "at": np.arange(TOKENS)[None].repeat(BATCH, 0)},
        ROTARY,
        domain="",
        opset=23,
        attributes={"num_heads": HEADS},
    ),
    Case(
        "Attention",
        "q k v",
        THREE,
        domain="",
        opset=23,
        attributes={"q_num_heads": HEADS, "kv_num_heads": HEADS, "is_causal": 1},
    ),
    Case("Attention", "q k v", NARROW, domain="", opset=23, attributes={"q_num_heads": HEADS, "kv_num_heads": 2}),
    Case("Attention", "q k v m", SPLIT | {"m": np.tril(np.ones((TOKENS, TOKENS), bool))}, domain="", opset=23),
)


def built(case: Case) -> Model:
    outputs = case.outputs.split(" ")
    inputs = ["" if name == "-" else name for name in case.inputs.split()]
    node = helper.make_node(case.op_type, inputs, outputs, domain=case.domain, **case.attributes)
    typed = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in case.fed.items()}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, typed[name], array.shape) for name, array in case.fed.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in case.held.items()],
    )
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid(MICROSOFT, 1)]
    return as_model(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def run(model: Model, fed: Mapping[str, Array]) -> Array:
    """By ONNX Runtime; skipped where that is older than the opset."""
    try:
        session = ort.InferenceSession(model.proto.SerializeToString())
    except Fail as refused:
        pytest.skip(f"this ONNX Runtime does not load opset {model.opset}: {refused}")
    names = {value.name for value in session.get_inputs()}
    return np.asarray(session.run(["y"], {name: array for name, array in fed.items() if name in names})[0])


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.op_type}-{n}") for n, c in enumerate(CASES)])
def test_what_is_written_out_is_what_the_operator_computes(case: Case) -> None:
    model = built(case)
    written = expanded(model).model
    assert written is not model and not {(case.domain, case.op_type)} & {
        (node.domain, node.op_type) for node in written.nodes
    }
    np.testing.assert_allclose(run(written, case.fed), run(model, case.fed), rtol=1e-3, atol=2e-4)


def test_every_operator_that_is_written_out_is_tried() -> None:
    assert {(case.domain, case.op_type) for case in CASES} == set(RULES)


def test_a_model_of_plain_operators_stays_what_it_is() -> None:
    graph = onnx.parser.parse_graph("g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }")
    model = as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    assert expanded(model).model is model


def test_the_packed_weight_of_a_fused_attention_is_a_layer_that_costs_what_its_product_costs() -> None:
    fed = {"x": drawn(1, 8, WIDTH)}
    fused = built(Case("Attention", "x w c", fed, QKV, attributes={"num_heads": HEADS}))
    plain = expanded(fused)
    told = [_told(model) for model in (fused, plain.model)]
    assert told[0]["y"] == pytest.approx(told[1][plain.products["y"]], abs=1e-3)


def _told(model: Model) -> Mapping[str, float | None]:
    file = measure(model, (INT8_PER_TENSOR,))
    made = forecast(noise_model(file), file.layers, (INT8_PER_TENSOR,))[INT8_PER_TENSOR.name]
    assert not made.unknown and not made.failures
    return {key: row.weight_sqnr_db for key, row in made.layers.items()}
