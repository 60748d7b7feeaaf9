"""Every operator that is said to keep a batch apart, run: a batch gives what its elements give alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array, as_model, versioned_text

from onnxlint_q.execute.batch.batch_tensors import MixesBatchError
from onnxlint_q.execute.batch.free_batch import free_batch
from onnxlint_q.execute.executable import Executable, as_stored
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.graph.operators import BatchAxis, Operator, Trait, lookup, operators

SCHEMAS = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
ROWS = [row for row in operators() if row.batch is not BatchAxis.MIXES and not row.domain and row.name in SCHEMAS]
BATCH = 3
TYPES = {"tensor(float)": "float", "tensor(bool)": "bool", "tensor(int32)": "int32", "tensor(uint32)": "uint32"}
CONSTANTS: dict[str, Any] = {
    "axes": np.asarray([1], np.int64),
    "one": np.asarray(1, np.int64),
    "places": np.asarray([1, 0], np.int64),
    "shape": np.asarray([1, 6, -1], np.int64),
    "wide": np.asarray([1, 2, 6], np.int64),
    "thrice": np.asarray([1, 3, 1, 2], np.int64),
    "begin": np.asarray([1], np.int64),
    "end": np.asarray([3], np.int64),
    "pads": np.asarray([0, 1, 0, 2, 0, 0, 1, 0], np.int64),
    "scales": np.asarray([1, 1, 2, 2], np.float32),
    "step": np.asarray(0.05, np.float32),
    "codes": np.asarray(7, np.uint8),
    "channel": np.linspace(0.5, 1.5, 4).astype(np.float32),
    "last": np.linspace(0.5, 1.5, 6).astype(np.float32),
    "kernel": np.random.default_rng(1).normal(size=(4, 4, 3, 3)).astype(np.float32),
    "matrix": np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32),
    "row": np.random.default_rng(3).normal(size=(1, 4, 6, 6)).astype(np.float32),
}
# Of what is no function of single values; x, z and w are [1, 4, 6, 6], i holds places.
NODES = {
    "ArgMax": "ArgMax <axis = 1> (x)",
    "ArgMin": "ArgMin <axis = 2> (x)",
    "AveragePool": "AveragePool <kernel_shape = [2, 2]> (x)",
    "BatchNormalization": "BatchNormalization (x, channel, channel, channel, channel)",
    "CastLike": "CastLike (x, step)",
    "Concat": "Concat <axis = 1> (x, z)",
    "Conv": "Conv (x, kernel)",
    "ConvTranspose": "ConvTranspose (x, kernel)",
    "CumSum": "CumSum (x, one)",
    "DepthToSpace": "DepthToSpace <blocksize = 2> (x)",
    "DequantizeLinear": "DequantizeLinear (i, step)",
    "Dropout": "Dropout (x)",
    "Expand": "Expand (c, wide)",
    "Flatten": "Flatten (x)",
    "Gather": "Gather <axis = 2> (x, places)",
    "GatherElements": "GatherElements <axis = 1> (x, i)",
    "Gemm": "Gemm (m, matrix)",
    "GlobalLpPool": "GlobalLpPool (x)",
    "GroupNormalization": "GroupNormalization <num_groups = 2> (x, channel, channel)",
    "InstanceNormalization": "InstanceNormalization (x, channel, channel)",
    "LRN": "LRN <size = 3> (x)",
    "LayerNormalization": "LayerNormalization (x, last)",
    "LpPool": "LpPool <kernel_shape = [2, 2]> (x)",
    "MatMul": "MatMul (x, matrix)",
    "MaxPool": "MaxPool <kernel_shape = [2, 2]> (x)",
    "MeanVarianceNormalization": "MeanVarianceNormalization <axes = [2, 3]> (x)",
    "Pad": "Pad (x, pads)",
    "QuantizeLinear": "QuantizeLinear (x, step, codes)",
    "RMSNormalization": "RMSNormalization (x, last)",
    "Reshape": "Reshape (x, shape)",
    "Resize": "Resize (x, , scales)",
    "Slice": "Slice (x, begin, end, axes)",
    "SpaceToDepth": "SpaceToDepth <blocksize = 2> (x)",
    "Split": "Split <axis = 1, num_outputs = 2> (x)",
    "Squeeze": "Squeeze (c, axes)",
    "Tile": "Tile (x, thrice)",
    "TopK": "TopK (x, begin)",
    "Transpose": "Transpose <perm = [0, 2, 1, 3]> (x)",
    "Unsqueeze": "Unsqueeze (x, axes)",
    "Upsample": "Upsample (x, scales)",
    "Where": "Where (b, x, z)",
}
SHAPES = {"x": "float[1, 4, 6, 6]", "z": "float[1, 4, 6, 6]", "m": "float[1, 6]", "c": "float[1, 1, 6]"}
SHAPES |= {"b": "bool[1, 4, 6, 6]", "i": "int32[1, 4, 6, 6]"}
OPSETS = {"Upsample": 9, "GlobalLpPool": 17}


def written(row: Operator) -> onnx.ModelProto:
    """A model of one node, its inputs of a batch of one."""
    name = row.name
    schema = SCHEMAS[name]
    shapes = dict(SHAPES)
    text = NODES.get(name)
    if text is None and row.batch in {BatchAxis.ALONG_AXES, BatchAxis.ALONG_AXIS}:
        takes_input = len(schema.inputs) > 1
        text = (
            f"{name} (x, axes)"
            if takes_input
            else f"{name} <{'axis = 1' if row.axis is not None else 'axes = [1]'}> (x)"
        )
    if text is None:
        attributes = {"Cast": " <to = 11>", "BitShift": ' <direction = "LEFT">'}.get(name, "")
        count = 2 if schema.min_input == 1 and schema.max_input > 3 else schema.min_input
        letters = ["x", "z"][:count]
        for slot, letter in enumerate(letters):
            types = schema.inputs[min(slot, len(schema.inputs) - 1)].types
            shapes[letter] = f"{next(kind for type_, kind in TYPES.items() if type_ in types)}[1, 4, 6, 6]"
        text = f"{name}{attributes} ({', '.join(letters)})"
    read = [letter for letter in shapes if letter in text[text.index("(") :].strip("()").replace(" ", "").split(",")]
    inputs = ", ".join(f"{shapes[letter]} {letter}" for letter in read)
    constants = {key: value for key, value in CONSTANTS.items() if key in text}
    results = "y, rest" if name == "Split" else "y, places_" if name == "TopK" else "y"
    opset = OPSETS.get(name, max(schema.since_version, 18))
    return versioned_text(opset, "", f"g ({inputs}) => (y) {{ {results} = {text} }}", **constants)


def computed(executable: Executable, feeds: dict[str, Array]) -> Array:
    """By ONNX Runtime, or by onnx where that lacks the operator."""
    try:
        return np.asarray(Session(executable).run(feeds)[0])
    except NotRunnableError:
        results: Any = ReferenceEvaluator(executable.proto).run(None, feeds)
        return np.asarray(results[0])


def batch_of(proto: onnx.ModelProto) -> dict[str, Array]:
    random = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for value in proto.graph.input:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = (BATCH, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]))
        drawn = random.uniform(-3, 3, shape) if kind == np.float32 else random.integers(0, 2, shape)
        found[value.name] = drawn.astype(kind)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_batch_gives_what_its_elements_give_alone(row: Operator) -> None:
    proto = written(row)
    model = as_model(proto)
    feeds = batch_of(proto)
    grown = free_batch(model, as_stored(model), [])
    alone = [computed(as_stored(model), {k: v[n : n + 1] for k, v in feeds.items()}) for n in range(BATCH)]
    together = computed(grown, feeds)
    assert len({value.tobytes() for value in alone}) > 1 or alone[0].dtype != np.float32, "the elements differ"
    assert together.shape == (BATCH, *alone[0].shape[1:])
    assert np.allclose(together.astype(np.float64), np.concatenate(alone).astype(np.float64), atol=1e-5, equal_nan=True)


MOVES = [row for row in ROWS if row.has(Trait.MOVES | Trait.COPIES | Trait.AVERAGES | Trait.RESAMPLES)]


@pytest.mark.parametrize("row", MOVES, ids=lambda row: row.name)
def test_what_is_moved_keeps_its_value(row: Operator) -> None:
    proto = written(row)
    feeds = batch_of(proto)
    data = feeds[proto.graph.node[0].input[0]][:1]
    result = computed(as_stored(as_model(proto)), {name: value[:1] for name, value in feeds.items()})
    assert data.min() - 1e-6 <= result.min() or row.has(Trait.FILLS)
    assert result.max() <= data.max() + 1e-6
    if row.has(Trait.MOVES):
        assert set(result.ravel().tolist()) <= set(data.ravel().tolist()) | ({0.0} if row.has(Trait.FILLS) else set())
    if row.has(Trait.REARRANGES):
        assert sorted(result.ravel()) == sorted(data.ravel())
    if row.has(Trait.RESHAPES) or (row.has(Trait.COPIES) and result.dtype == data.dtype):
        assert np.array_equal(result.ravel(), data.ravel())


@pytest.mark.parametrize(
    ("operator", "why"),
    [
        ("Expand (x, longer)", "repeats the batch"),
        ("Expand (x, twice)", "repeats the batch"),
        ("Tile (x, twice)", "repeats the batch"),
        ("LpNormalization <axis = 0> (x)", "along the batch"),
        ("ReduceProd (x, first)", "along the batch"),
        ("MeanVarianceNormalization (x)", "along the batch"),
        ('Einsum <equation = "bij->jib"> (x)', "not known"),
    ],
)
def test_what_would_mix_a_batch_is_refused(operator: str, why: str) -> None:
    constants = {
        "longer": np.asarray([2, 1, 4, 6], np.int64),
        "twice": np.asarray([2, 1, 1], np.int64),
        "first": np.asarray([0], np.int64),
    }
    used = {key: value for key, value in constants.items() if key in operator}
    model = as_model(versioned_text(18, "", f"g (float[1, 4, 6] x) => (y) {{ y = {operator} }}", **used))
    with pytest.raises(MixesBatchError, match=why):
        free_batch(model, as_stored(model), [])


def test_operators_of_other_domains_are_looked_up_as_such() -> None:
    assert lookup("Gelu", "com.microsoft").batch is BatchAxis.FREE
    assert lookup("Reshape", "custom").batch is BatchAxis.MIXES
