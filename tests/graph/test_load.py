"""Reading: good files become models, broken ones one line that says what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import FIXTURES
from onnx import helper
from onnx_cases import as_model, onnx_text

from onnxlint_q.errors import ModelError
from onnxlint_q.graph import read_model

MESSAGES = {
    "truncated": "the protobuf is corrupt or truncated (742 bytes); download or export the file again",
    "empty": "the file is empty (0 bytes); download or export it again",
    "lfs_pointer": "this is a Git LFS pointer, not the model; run `git lfs pull`",
    "text": "this is a text file, not an ONNX model; pass the exported .onnx file",
    "random_bytes": "the protobuf is corrupt or truncated (2048 bytes); download or export the file again",
    "no_graph": "parsed, but it holds no graph, so it is not an ONNX model; export it again",
    "missing_external_data": "initializer 'stem_conv.weight' needs the external data file 'weights.bin', "
    "which is not there; put it beside the model",
    "escaping_external_data": "initializer 'stem_conv.weight' points outside the model's folder "
    "('../../etc/passwd'); keep external data beside the model",
    "absolute_external_data": "initializer 'stem_conv.weight' points outside the model's folder "
    "('/etc/passwd'); keep external data beside the model",
    "hidden_external_data": "attribute 'value' of the ConstantOfShape node 'fill' has its values in another file, "
    "which only initializers and Constant nodes may; export the model again with this tensor inside",
    "external_data_not_utf8": "initializer 'stem_conv.weight' names an external data file in text that is not UTF-8; "
    "export the model again",
    "cyclic": "the graph has a cycle through 'a', 'b'; export the model again",
    "missing_initializer": "the MatMul node 'dense' reads tensor 'w', which no input, initializer or node "
    "defines; export the model again",
    "duplicate_tensor": "tensor 'y' is defined twice (by the Neg node 'second'); export the model again",
    "short_initializer": "initializer 'w' holds 40 bytes, its shape [4, 4] needs 64; export the model again",
    "recursive_function": "local function 'Again' calls itself; export the model again",
    "exponential_functions": f"expanding its local functions would give {2**40} nodes (limit 20000); "
    "export it with functions inlined",
}


def test_every_broken_fixture_has_its_message(broken: Path) -> None:
    assert {path.stem for path in broken.iterdir()} == set(MESSAGES)


@pytest.mark.parametrize(("name", "message"), MESSAGES.items())
def test_broken_file_is_refused_in_one_line(broken: Path, name: str, message: str) -> None:
    path = broken / f"{name}.onnx"
    with pytest.raises(ModelError) as raised:
        read_model(path)
    assert str(raised.value) == f"{path}: {message}"


@pytest.mark.parametrize("path", sorted((FIXTURES / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_good_file_is_read(path: Path) -> None:
    model = read_model(path)
    proto = onnx.load(path, load_external_data=False)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.opset == next(entry.version for entry in proto.opset_import if entry.domain == "")
    assert [value.name for value in model.outputs] == [value.name for value in proto.graph.output]
    assert len(model.nodes) >= len(proto.graph.node)
    assert [node.order for node in model.nodes] == list(range(len(model.nodes)))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file; check the path"):
        read_model(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match=r"not a regular file; pass an \.onnx file or a folder of them"):
        read_model(tmp_path)


def test_path_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be read .*; check the path and its permissions"):
        read_model(tmp_path / ("x" * 300))


def test_text_is_recognised_where_its_start_ends_inside_a_character(tmp_path: Path) -> None:
    path = tmp_path / "umlaut.onnx"
    path.write_bytes(("x" + "ä" * 400).encode())
    with pytest.raises(ModelError, match="this is a text file"):
        read_model(path)


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    proto = onnx_text("g (float[4] x) => (float[4] y) { aaaa = Relu(x) y = Neg(aaaa) }")
    path = tmp_path / "latin1.onnx"
    path.write_bytes(proto.SerializeToString().replace(b"aaaa", b"\xff\xfe\xfd\xfc"))
    with pytest.raises(ModelError, match="names that are not valid UTF-8; the file is damaged, export it again"):
        read_model(path)


def test_initializers_that_are_inputs_too_are_no_inputs(models: Path) -> None:
    """Before IR version 4 the file lists every weight as an input."""
    model = read_model(models / "opset11.onnx")
    assert len(model.proto.graph.input) > 1
    assert [value.name for value in model.inputs] == ["images"]
    assert model.is_constant("stem_conv.weight")


def test_initializer_stored_twice() -> None:
    proto = onnx_text("g (float[N,4] x) => (float[N,4] y) <float[1] b = {1}> { y = Add(x, b) }")
    proto.graph.initializer.append(proto.graph.initializer[0])
    with pytest.raises(ModelError, match="initializer 'b' is there twice"):
        as_model(proto)


def test_tensor_without_a_name() -> None:
    """The empty name means an input that is left out, so no tensor may have it."""
    proto = onnx_text("g (float[4] x) => (float[4] y) { y = Relu(x) }", w=np.ones(4, np.float32))
    proto.graph.initializer[0].name = ""
    with pytest.raises(ModelError, match="there is a tensor as an initializer without a name"):
        as_model(proto)


def test_output_that_nothing_computes() -> None:
    proto = onnx_text("g (float[4] x) => (float[4] y, float[4] z) { y = Relu(x) }")
    with pytest.raises(ModelError, match="output 'z' of graph 'main' is not computed by any node"):
        as_model(proto)


def test_node_order_in_the_file_does_not_matter() -> None:
    proto = onnx_text("g (float[4] x) => (float[4] y) { y = Neg(a) a = Relu(x) }")
    assert [node.op_type for node in as_model(proto).nodes] == ["Relu", "Neg"]


def test_local_functions_are_inlined(models: Path) -> None:
    model = read_model(models / "local_function.onnx")
    assert [node.op_type for node in model.nodes] == ["Conv", "Relu", "Conv", "Relu"]
    assert not model.proto.functions


def calls(count: int, body_bytes: int) -> onnx.ModelProto:
    """A chain of calls of one function that holds a constant."""
    proto = onnx_text("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    constant = onnx.numpy_helper.from_array(np.zeros(body_bytes, np.uint8))
    nodes = [helper.make_node("Constant", [], ["c"], value=constant), helper.make_node("Neg", ["a"], ["b"])]
    opset = helper.make_opsetid("", 17)
    proto.functions.append(helper.make_function("local", "F", ["a"], ["b"], nodes, [opset]))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    names = ["x", *(f"t{number}" for number in range(count - 1)), "z"]
    for number in range(count):
        proto.graph.node.append(helper.make_node("F", [names[number]], [names[number + 1]], domain="local"))
    return proto


def test_calls_that_copy_a_large_constant() -> None:
    """A file of 20 MB that would need 2 GB of memory."""
    with pytest.raises(ModelError, match=r"would give 20\d{8} bytes \(limit 1073741824\)"):
        as_model(calls(100, 20_000_000))


def test_calls_of_reasonable_size() -> None:
    assert len(as_model(calls(100, 1_000)).nodes) == 201
