"""The rows of the operator table against onnx's schemas, ONNX Runtime's quantiser, and what operators compute."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

import onnxlint_q
import onnxlint_q_rules
from onnxlint_q.execute.batch.batch_rules import OWN_RULES, RULES
from onnxlint_q.forecast.forward import RULES as FORECAST_RULES
from onnxlint_q.forecast.operators.elementwise import FUNCTIONS
from onnxlint_q.graph.evaluate import _OPERATIONS
from onnxlint_q.graph.operators import MICROSOFT, BatchAxis, Operator, StaticScale, Trait, lookup, operators

SCHEMAS = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
# The newest opset that the table was made from.
NEWEST = 28


# -- the rows themselves ---------------------------------------------------------------------------------------------


def test_every_operator_of_the_specification_has_a_row() -> None:
    named = {name for name, schema in SCHEMAS.items() if schema.since_version <= NEWEST}
    assert not {name for name in named if not lookup(name).known}


def test_the_default_domain_has_no_others_than_the_specification() -> None:
    if onnx.defs.onnx_opset_version() < NEWEST:
        pytest.skip("this onnx is older than the table")
    # ONNX Runtime writes this one into the default domain.
    assert {row.name for row in operators() if not row.domain} - SCHEMAS.keys() == {"SimplifiedLayerNormalization"}


def test_an_unknown_operator_has_a_row_without_traits() -> None:
    row = lookup("Reshape", "somebody.elses")
    assert not row.known and not row.traits and row.batch is BatchAxis.MIXES and row.layer is None
    assert row.form == "Reshape"
    assert lookup("Reshape", "ai.onnx") is lookup("Reshape")


def test_positions_are_those_of_inputs_and_outputs() -> None:
    for row in operators():
        schema = SCHEMAS.get(row.name)
        if row.domain or schema is None:
            continue
        layer, codes = row.layer, row.codes
        slots = [*(row.data or ()), *row.weights]
        if layer is not None:
            parts = (layer.input, layer.weight, layer.bias, layer.scale, layer.zero_point)
            slots += [slot for slot in parts if slot is not None]
        if codes is not None:
            slots += [slot for triple in codes.reads for slot in triple] + list(codes.writes or ())
        assert max(slots, default=0) < max(schema.max_input, 1), row.name
        assert (row.results or 1) <= max(schema.max_output, 1), row.name


def test_the_names_of_the_inputs_are_what_the_positions_say() -> None:
    """`W`, `B`, `x_scale`: by the names that the schemas give them."""
    names = {row.name: [parameter.name for parameter in SCHEMAS[row.name].inputs] for row in layers("")}
    for row in layers(""):
        assert row.layer is not None
        inputs, layer = names[row.name], row.layer
        assert inputs[layer.weight].lower() in {"w", "b"}, row.name
        if layer.bias is not None:
            assert inputs[layer.bias].lower() in {"b", "c"}, row.name
        if layer.scale is not None:
            assert inputs[layer.scale].endswith("_scale") and inputs[layer.scale][0] in "wb", row.name
        if layer.zero_point is not None:
            assert inputs[layer.zero_point].endswith("_zero_point"), row.name


def layers(domain: str) -> Iterator[Operator]:
    return (row for row in operators() if row.layer is not None and row.domain == domain)


def test_the_default_of_the_axis_is_that_of_the_schema() -> None:
    for row in operators():
        schema = SCHEMAS.get(row.name)
        if not row.domain and schema is not None and "axis" in schema.attributes and row.batch is not BatchAxis.MIXES:
            attribute = schema.attributes["axis"]
            if not attribute.required and attribute.default_value.name:
                declared = attribute.default_value.i
                assert row.axis == declared or row.batch is BatchAxis.OWN, row.name


def test_shape_inference_computes_sizes_of_those_that_the_table_says() -> None:
    computed = {name for name, schema in SCHEMAS.items() if schema.has_data_propagation_function}
    assert computed == {row.name for row in operators() if row.has(Trait.INFERS_SIZES)}


def test_the_static_quantiser_handles_what_the_table_says() -> None:
    handled = QLinearOpsRegistry.keys() | QDQRegistry.keys()
    assert handled <= {row.name for row in operators() if row.static is not None}
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31):
        assert handled == {row.name for row in operators() if row.static is not None}
    of_class = {name: kind.__name__ for name, kind in QDQRegistry.items()}
    same = {name for name, kind in of_class.items() if kind in {"QDQDirect8BitOp", "QDQMaxPool", "QDQResize"}}
    for name in same:
        assert lookup(name).static in {StaticScale.KEPT, StaticScale.LENT}, name
    assert {name for name, kind in of_class.items() if kind == "QDQRemovableActivation"} == {
        row.name for row in operators() if row.static is StaticScale.ABSORBED
    }


def test_what_is_kept_is_moved() -> None:
    for row in operators():
        if row.static in {StaticScale.KEPT, StaticScale.ASKED} and row.name != "TopK":
            assert row.has(Trait.MOVES), row.name
        if row.static is StaticScale.LENT:
            assert not row.has(Trait.MOVES), row.name


# -- who uses it -----------------------------------------------------------------------------------------------------


def test_every_operator_that_the_packages_name_has_a_row() -> None:
    named = {*FORECAST_RULES, *_OPERATIONS, *OWN_RULES}
    for package in (onnxlint_q, onnxlint_q_rules):
        assert package.__file__ is not None
        for path in Path(package.__file__).parent.rglob("*.py"):
            named |= set(compared_operators(ast.parse(path.read_text())))
    rows = {row.name for row in operators()}
    assert {"Constant", "Relu", "BatchNormalization"} <= named, "the search finds what is there"
    assert not named - rows - {"Input"}


def compared_operators(tree: ast.AST) -> Iterator[str]:
    """Texts that something's `op_type` is compared with, and those in calls of `nodes_of`."""
    for part in ast.walk(tree):
        if isinstance(part, ast.Compare) and any(
            isinstance(side, ast.Attribute) and side.attr == "op_type" for side in (part.left, *part.comparators)
        ):
            yield from texts(part)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "nodes_of":
            yield from texts(part)


def texts(tree: ast.AST) -> Iterator[str]:
    return (part.value for part in ast.walk(tree) if isinstance(part, ast.Constant) and isinstance(part.value, str))


def test_an_operator_keeps_a_batch_apart_by_a_rule() -> None:
    assert {row.name for row in operators() if row.batch is BatchAxis.OWN} == OWN_RULES.keys()
    assert {row.batch for row in operators()} - {BatchAxis.OWN, BatchAxis.MIXES} == RULES.keys()


def test_the_forecast_knows_every_activation_of_the_default_domain() -> None:
    activations = {row.name for row in operators() if row.has(Trait.ACTIVATION) and not row.domain}
    assert activations - {"Clip", "PRelu"} <= FUNCTIONS.keys()
    assert activations <= FORECAST_RULES.keys()


# -- what the operators compute ---------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
ATTRIBUTES: dict[str, dict[str, Any]] = {"Cast": {"to": TensorProto.DOUBLE}, "BitShift": {"direction": "LEFT"}}
TYPES = {"tensor(float)": np.float32, "tensor(bool)": np.bool_, "tensor(int32)": np.int32, "tensor(uint32)": np.uint32}
FUNCTION_ROWS = [
    row
    for row in operators()
    if row.has(Trait.ELEMENTWISE) and not row.domain and row.name in SCHEMAS and row.name not in {"CastLike", "Where"}
]


def operand_count(name: str) -> int:
    schema = SCHEMAS[name]
    return 2 if schema.min_input == 1 and schema.max_input > 3 else schema.min_input


def dtype_of(name: str, slot: int) -> Any:
    schema = SCHEMAS[name]
    parameter = schema.inputs[min(slot, len(schema.inputs) - 1)]
    return next(kind for text, kind in TYPES.items() if text in parameter.types)


def applied(name: str, *operands: Array) -> Array:
    """What onnx's reference computes."""
    letters = [f"x{slot}" for slot in range(len(operands))]
    graph = helper.make_graph(
        [helper.make_node(name, letters, ["y"], **ATTRIBUTES.get(name, {}))],
        "g",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in zip(letters, operands, strict=True)
        ],
        [helper.make_empty_tensor_value_info("y")],
    )
    opset = max(SCHEMAS[name].since_version, 13)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        results: Any = ReferenceEvaluator(model).run(None, dict(zip(letters, operands, strict=True)))
    return np.asarray(results[0])


def drawn(name: str, slot: int, size: int = 24) -> Array:
    """Values that every function is defined on and that are all different, as far as their type has so many."""
    kind = dtype_of(name, slot)
    if kind is np.bool_:
        return RANDOM.integers(0, 2, size).astype(bool)
    if kind is not np.float32:
        return RANDOM.permutation(size).astype(kind) % 8
    low, high = (1.1, 2.0) if name == "Acosh" else (0.05, 0.95)
    return RANDOM.permutation(np.linspace(low, high, size)).astype(np.float32)


def same(one: Array, other: Array) -> bool:
    return bool(np.allclose(one.astype(np.float64), other.astype(np.float64), rtol=1e-5, atol=1e-6, equal_nan=True))


@pytest.mark.parametrize("row", FUNCTION_ROWS, ids=lambda row: row.name)
def test_an_elementwise_operator_looks_at_one_place(row: Operator) -> None:
    """A permutation of the values gives the permutation of the results."""
    operands = [drawn(row.name, slot) for slot in range(operand_count(row.name))]
    order = RANDOM.permutation(24)
    result = applied(row.name, *operands)
    assert result.shape == (24,)
    assert same(applied(row.name, *(operand[order] for operand in operands)), result[order])


WIDE = np.concatenate([np.linspace(-30, 30, 241), RANDOM.normal(size=200)]).astype(np.float32)


def with_trait(trait: Trait) -> list[Operator]:
    return [row for row in FUNCTION_ROWS if row.has(trait)]


@pytest.mark.parametrize("row", with_trait(Trait.INCREASING), ids=lambda row: row.name)
def test_an_increasing_function_keeps_the_order(row: Operator) -> None:
    domains = {"Acosh": (1, 9), "Atanh": (-0.99, 0.99), "Log": (0.01, 9), "Sqrt": (0, 9)}
    values = np.linspace(*domains.get(row.name, (-9.0, 9.0)), 201).astype(np.float32)
    assert (np.diff(applied(row.name, values).astype(np.float64)) >= -1e-6).all()


@pytest.mark.parametrize("row", [row for row in FUNCTION_ROWS if row.bounds], ids=lambda row: row.name)
def test_a_result_stays_within_its_bounds_and_comes_near_them(row: Operator) -> None:
    assert row.bounds is not None
    result = applied(row.name, np.abs(WIDE) if row.name == "Sqrt" else WIDE)
    assert row.bounds[0] <= result.min() and result.max() <= row.bounds[1]
    assert all(not np.isfinite(end) or np.abs(result - end).min() < 0.05 for end in row.bounds)


@pytest.mark.parametrize("row", with_trait(Trait.HOMOGENEOUS), ids=lambda row: row.name)
def test_a_factor_passes_through(row: Operator) -> None:
    slopes = [np.full(WIDE.shape, 0.25, np.float32)] * (operand_count(row.name) - 1)
    assert same(applied(row.name, 4 * WIDE, *slopes), 4 * applied(row.name, WIDE, *slopes))


@pytest.mark.parametrize("row", with_trait(Trait.RECTIFIES), ids=lambda row: row.name)
def test_positive_values_are_handed_on(row: Operator) -> None:
    values = np.linspace(4, 20, 50).astype(np.float32)
    slopes = [np.full(values.shape, 0.25, np.float32)] * (operand_count(row.name) - 1)
    assert np.allclose(applied(row.name, values, *slopes), values, rtol=0.06)


@pytest.mark.parametrize("row", with_trait(Trait.COMMUTATIVE), ids=lambda row: row.name)
def test_the_order_of_inputs_says_nothing(row: Operator) -> None:
    a, b = drawn(row.name, 0), drawn(row.name, 1)
    assert same(applied(row.name, a, b), applied(row.name, b, a))


def test_no_other_combination_is_commutative() -> None:
    for row in FUNCTION_ROWS:
        if operand_count(row.name) == 2 and not row.has(Trait.COMMUTATIVE):
            a, b = drawn(row.name, 0), drawn(row.name, 1)
            assert not same(applied(row.name, a, b), applied(row.name, b, a)), row.name


@pytest.mark.parametrize("row", with_trait(Trait.ADDS | Trait.SCALES), ids=lambda row: row.name)
def test_an_offset_or_factor_maps_the_mean_to_the_mean(row: Operator) -> None:
    a, b, c = (drawn(row.name, 0) for _ in range(3))
    first, second, middle = (applied(row.name, value, c) for value in (a, b, (a + b) / 2))
    assert same(middle, (first + second) / 2)
    assert same(applied(row.name, a + 1, c) - first, np.ones(24)) == row.has(Trait.ADDS)


def test_a_choice_gives_values_of_the_inputs() -> None:
    a, b = (RANDOM.normal(size=30).astype(np.float32) for _ in range(2))
    for result in (applied("Max", a, b), applied("Min", a, b), applied("Where", a > 0, a, b)):
        assert ((result == a) | (result == b)).all()


def test_quantised_forms_are_of_known_operators() -> None:
    for row in operators():
        assert lookup(row.form).known or lookup(row.form, MICROSOFT).known or row.form == row.name, row.name
        if row.codes is not None:
            assert row.form != row.name
