"""External data is found wherever a message can hold it, and only the store ever opens a file for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import onnx_text

from onnxlint_q.errors import ModelError
from onnxlint_q.execute.executable import PREFIX, as_stored
from onnxlint_q.execute.session import Session
from onnxlint_q.graph import read_model
from onnxlint_q.graph.loading.external import external_files, stored_bytes

STORED = np.asarray([1, 2, 3, 4], np.float32)
OTHERS = np.asarray([9, 9, 9, 9], np.float32)
SUM = "g (float[1,4] x) => (float[1,4] y) { y = Add(x, k) }"


def tensor(name: str, count: int = 4) -> TensorProto:
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "values.bin"), ("length", str(4 * count))):
        made.external_data.add(key=key, value=value)
    return made


def with_nodes(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A sum whose second operand `k` the nodes make."""
    proto = onnx_text(SUM.replace("Add(x, k)", "Add(x, x)"))
    proto.graph.node[0].input[1] = "k"
    for position, node in enumerate(nodes):
        proto.graph.node.insert(position, node)
    return proto


def branch(*nodes: onnx.NodeProto, tensors: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("o", 1, None)], tensors)


def chosen(then: onnx.GraphProto) -> onnx.ModelProto:
    """One with an If whose condition is true."""
    other = branch(helper.make_node("Identity", ["x"], ["o"]))
    proto = with_nodes(helper.make_node("If", ["c"], ["k"], then_branch=then, else_branch=other))
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "c"))
    return proto


def called(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """One with a function that makes `k`."""
    proto = with_nodes(helper.make_node("F", ["x"], ["k"], domain="local"))
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("local", "F", ["a"], ["o"], nodes, opsets))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    return proto


def fill(output: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    shape = helper.make_node("Constant", [], ["s"], value_ints=[4])
    return shape, helper.make_node("ConstantOfShape", ["s"], [output], "fill", value=tensor("v", 1))


def initializer() -> onnx.ModelProto:
    proto = with_nodes()
    proto.graph.initializer.append(tensor("k"))
    return proto


def reserved_name() -> onnx.ModelProto:
    """An initializer under a name that runs give to their own."""
    proto = with_nodes(helper.make_node("Identity", [f"{PREFIX}w0"], ["k"]))
    proto.graph.initializer.append(tensor(f"{PREFIX}w0"))
    return proto


def constant() -> onnx.ModelProto:
    return with_nodes(helper.make_node("Constant", [], ["k"], value=tensor("")))


def branch_initializer() -> onnx.ModelProto:
    return chosen(branch(helper.make_node("Identity", ["w"], ["o"]), tensors=(tensor("w"),)))


def branch_constant() -> onnx.ModelProto:
    return chosen(branch(helper.make_node("Constant", [], ["o"], value=tensor("o"))))


def function_constant() -> onnx.ModelProto:
    return called(helper.make_node("Constant", [], ["o"], value=tensor("o")))


ALLOWED = [initializer, reserved_name, constant, branch_initializer, branch_constant, function_constant]


@pytest.mark.parametrize("build", ALLOWED, ids=lambda build: build.__name__)
def test_values_come_from_beside_the_model(
    build: Callable[[], onnx.ModelProto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not from a file of that name in the working directory."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder, values in ((home, STORED), (elsewhere, OTHERS)):
        folder.mkdir()
        (folder / "values.bin").write_bytes(values.tobytes())
    (home / "m.onnx").write_bytes(build().SerializeToString())
    monkeypatch.chdir(elsewhere)
    (y,) = Session(as_stored(read_model(home / "m.onnx"))).run({"x": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(y, STORED[None])


@pytest.mark.parametrize("build", ALLOWED, ids=lambda build: build.__name__)
def test_a_file_that_is_not_beside_the_model(build: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(build().SerializeToString())
    with pytest.raises(ModelError, match=r"needs the external data file 'values.bin', which is not there"):
        read_model(tmp_path / "m.onnx")


def attribute() -> onnx.ModelProto:
    return with_nodes(*fill("k"))


def branch_attribute() -> onnx.ModelProto:
    return chosen(branch(*fill("o")))


def function_attribute() -> onnx.ModelProto:
    return called(*fill("o"))


def function_default() -> onnx.ModelProto:
    proto = called(helper.make_node("Identity", ["a"], ["o"]))
    proto.functions[0].attribute_proto.append(helper.make_attribute("fallback", tensor("v")))
    return proto


def tensor_list() -> onnx.ModelProto:
    node = helper.make_node("Listed", ["x"], ["k"], "lists", domain="odd")
    node.attribute.append(helper.make_attribute("many", [tensor("v")]))
    return with_nodes(node)


def half(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[4])


INLINE = numpy_helper.from_array(np.asarray([0, 1]), "i")


def sparse_values() -> onnx.ModelProto:
    proto = with_nodes()
    proto.graph.sparse_initializer.append(half(tensor("k", 2), INLINE))
    return proto


def sparse_indices() -> onnx.ModelProto:
    proto = with_nodes()
    proto.graph.sparse_initializer.append(half(numpy_helper.from_array(STORED[:2], "k"), tensor("i", 2)))
    return proto


def sparse_constant() -> onnx.ModelProto:
    return with_nodes(helper.make_node("Constant", [], ["k"], "sparse", sparse_value=half(tensor("v", 2), INLINE)))


def sparse_list() -> onnx.ModelProto:
    node = helper.make_node("Listed", ["x"], ["k"], "lists", domain="odd")
    node.attribute.append(helper.make_attribute("many", [half(tensor("v", 2), INLINE)]))
    return with_nodes(node)


def foreign_constant() -> onnx.ModelProto:
    return with_nodes(helper.make_node("Constant", [], ["k"], "odd", domain="odd", value=tensor("v")))


def mistyped_constant() -> onnx.ModelProto:
    """The attribute says that it is a number, and holds a tensor."""
    proto = constant()
    node = next(node for node in proto.graph.node if node.op_type == "Constant")
    node.attribute[0].type = onnx.AttributeProto.FLOAT
    return proto


def mistyped_branch() -> onnx.ModelProto:
    """A graph in an attribute that says that it holds none."""
    proto = branch_initializer()
    node = next(node for node in proto.graph.node if node.op_type == "If")
    next(entry for entry in node.attribute if entry.name == "then_branch").type = onnx.AttributeProto.INT
    return proto


def training() -> onnx.ModelProto:
    proto = onnx_text(SUM.replace("Add(x, k)", "Relu(x)"))
    proto.training_info.add().initialization.initializer.append(tensor("k"))
    return proto


@pytest.mark.parametrize(
    ("build", "place"),
    [
        (attribute, "attribute 'value' of the ConstantOfShape node 'fill'"),
        (branch_attribute, "attribute 'value' of the ConstantOfShape node 'fill'"),
        (function_attribute, "attribute 'value' of the ConstantOfShape node 'fill'"),
        (function_default, "attribute 'fallback' of function 'F'"),
        (tensor_list, "attribute 'many' of the Listed node 'lists'"),
        (sparse_values, "sparse initializer 'k'"),
        (sparse_indices, "sparse initializer 'i'"),
        (sparse_constant, "attribute 'sparse_value' of the Constant node 'sparse'"),
        (sparse_list, "attribute 'many' of the Listed node 'lists'"),
        (foreign_constant, "attribute 'value' of the Constant node 'odd'"),
        (mistyped_constant, "attribute 'value' of the Constant node 'k'"),
        (mistyped_branch, "initializer 'w'"),
        (training, "training initializer 'k'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_places_are_refused(build: Callable[[], onnx.ModelProto], place: str, tmp_path: Path) -> None:
    """Even though the file is where it should be: what is not read by the store is read by somebody else."""
    (tmp_path / "values.bin").write_bytes(STORED.tobytes())
    (tmp_path / "m.onnx").write_bytes(build().SerializeToString())
    with pytest.raises(ModelError) as raised:
        read_model(tmp_path / "m.onnx")
    assert f"m.onnx: {place} has its values in another file" in str(raised.value)


def test_more_axes_than_an_array_has(tmp_path: Path) -> None:
    """Such an initializer is left to ONNX Runtime, which must not be the one to open a file."""
    proto = initializer()
    proto.graph.initializer[0].dims[:] = [*[1] * 70, 4]
    (tmp_path / "values.bin").write_bytes(STORED.tobytes())
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="'k' has its values in another file and 71 axes; reshape it"):
        read_model(tmp_path / "m.onnx")


def stored_apart(location: str) -> onnx.TensorProto:
    made = onnx.TensorProto(name="t", data_type=onnx.TensorProto.FLOAT, dims=[4])
    made.data_location = onnx.TensorProto.EXTERNAL
    made.external_data.add(key="location", value=location)
    return made


def test_initializers_attributes_subgraphs_functions_and_sparse_tensors(tmp_path: Path) -> None:
    proto = onnx_text(
        """agraph (bool c, float[4] x) => (float[4] y) {
            y = If (c) <then_branch = t () => (float[4] a) { a = Neg(x) },
                        else_branch = e () => (float[4] b) { b = Abs(x) }>
        }"""
    )
    proto.graph.initializer.append(stored_apart("initializer.bin"))
    proto.graph.node[0].attribute[0].g.initializer.append(stored_apart("sub/branch.bin"))
    proto.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["s"], ["o"], value=stored_apart("attribute.bin")))
    proto.graph.sparse_initializer.add().values.CopyFrom(stored_apart("sparse.bin"))
    body = [onnx.helper.make_node("Constant", [], ["r"], value=stored_apart("function.bin"))]
    proto.functions.add(name="f", domain="d").node.extend(body)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    names = ("initializer.bin", "sub/branch.bin", "attribute.bin", "sparse.bin", "function.bin")
    assert external_files(path) == {tmp_path / name for name in names}


def test_a_file_that_is_no_model_refers_to_nothing(tmp_path: Path, models: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 not a model")
    assert external_files(tmp_path / "a.npz") == external_files(tmp_path / "none") == frozenset()
    assert external_files(models / "healthy_resnet.onnx") == frozenset()


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    proto = onnx_text(SUM)
    proto.graph.initializer.append(tensor("k"))
    proto.graph.initializer[0].external_data[0].value = "w" * 300
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, path)
    assert stored_bytes(path) == path.stat().st_size
    with pytest.raises(ModelError, match=r"needs the external data file 'w+', which is not there"):
        read_model(path)


def test_links_in_a_circle_are_told(tmp_path: Path) -> None:
    proto = onnx_text(SUM)
    proto.graph.initializer.append(tensor("k"))
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, path)
    (tmp_path / "values.bin").symlink_to(tmp_path / "other.bin")
    (tmp_path / "other.bin").symlink_to(tmp_path / "values.bin")
    with pytest.raises(ModelError, match=r"needs the external data file 'values\.bin', which is not there"):
        read_model(path)
