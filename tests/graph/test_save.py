"""A model that is written reads back as it was, its weights inside or in a second file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import FIXTURES
from onnx_cases import onnx_text, run

from onnxlint_q.errors import ModelError
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.loading import save

NAME = "made.onnx"
WEIGHT = 64 * 32 * 4
FEED = {"x": np.arange(64, dtype=np.float32).reshape(1, 64) / 64}


def dense() -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    return onnx_text("g (float[N,64] x) => (float[N,32] y) { h = MatMul(x, w) y = Add(h, b) }", w=weight, b=weight[0])


def in_an_attribute() -> onnx.ModelProto:
    made = dense()
    (weight,) = [one for one in made.graph.initializer if one.name == "w"]
    made.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=weight))
    made.graph.initializer.remove(weight)
    return made


def in_a_branch() -> onnx.ModelProto:
    """A weight of a subgraph, behind a condition."""
    made = in_an_attribute()
    inner = onnx.helper.make_graph([made.graph.node[0]], "inner", [], [onnx.ValueInfoProto(name="w")])
    made.graph.node[0].CopyFrom(
        onnx.helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner, name="either")
    )
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(True), "yes"))
    return made


def sparse() -> onnx.ModelProto:
    """A diagonal of 512 ones, stored as such."""
    values = onnx.numpy_helper.from_array(np.ones(512, np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.arange(512) * 513, "places")
    made = onnx_text("g (float[N,512] x) => (float[N,512] y) { y = MatMul(x, w) }")
    made.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [512, 512]))
    return made


CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "dense": dense,
    "in an attribute": in_an_attribute,
    "in a branch": in_a_branch,
}


def stored(proto: onnx.ModelProto, folder: Path, *, outside: bool) -> Model:
    folder.mkdir()
    onnx.save(
        proto,
        folder / "given.onnx",
        save_as_external_data=outside,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    return read_model(folder / "given.onnx")


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
@pytest.mark.parametrize("name", CASES)
def test_weights_stay_where_they_are(name: str, outside: bool, tmp_path: Path) -> None:
    given = stored(CASES[name](), tmp_path / "given", outside=outside)
    before = given.proto.SerializeToString()
    names = save.save_model(given, tmp_path, NAME)
    assert names == ((NAME, f"{NAME}.data") if outside else (NAME,))
    assert {path.name for path in tmp_path.iterdir()} == {"given", *names}
    assert given.proto.SerializeToString() == before, "the model itself stays as it is"
    onnx.checker.check_model(str(tmp_path / NAME), full_check=True)
    np.testing.assert_array_equal(run(tmp_path / NAME, FEED)[0], run(given.path, FEED)[0])
    read_model(tmp_path / NAME)
    # Weights outside, what is small inside.
    assert ((tmp_path / NAME).stat().st_size < WEIGHT) is outside


@pytest.mark.parametrize("name", CASES)
def test_too_many_for_one_file_go_to_a_second(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = stored(CASES[name](), tmp_path / "given", outside=False)
    monkeypatch.setattr(save, "_MOST_INSIDE", given.proto.ByteSize() - 1)
    assert save.save_model(given, tmp_path, NAME) == (NAME, f"{NAME}.data")
    assert (tmp_path / f"{NAME}.data").stat().st_size == WEIGHT * (2 if name == "in a branch" else 1)
    read_model(tmp_path / NAME)
    np.testing.assert_array_equal(run(tmp_path / NAME, FEED)[0], run(given.path, FEED)[0])
    monkeypatch.setattr(save, "_MOST_INSIDE", given.proto.ByteSize())
    (tmp_path / "small").mkdir()
    assert save.save_model(given, tmp_path / "small", NAME) == (NAME,)


@pytest.mark.parametrize("most", [0, 1 << 30], ids=["outside", "inside"])
def test_sparse_weights_stay_inside(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(sparse(), tmp_path / "given.onnx")
    given = read_model(tmp_path / "given.onnx")
    monkeypatch.setattr(save, "_MOST_INSIDE", most)
    save.save_model(given, tmp_path, NAME)
    made = read_model(tmp_path / NAME)
    assert list(made.proto.graph.sparse_initializer) == list(sparse().graph.sparse_initializer)


def test_a_fixture_with_weights_outside_is_copied_to_another_folder(tmp_path: Path) -> None:
    given = read_model(FIXTURES / "models" / "external_data.onnx")
    save.save_model(given, tmp_path, NAME)
    again = read_model(tmp_path / NAME)
    for tensor in given.proto.graph.initializer:
        np.testing.assert_array_equal(again.constants[tensor.name], given.constants[tensor.name])


def test_weights_that_are_gone_and_folders_that_take_nothing_are_told(tmp_path: Path) -> None:
    given = stored(dense(), tmp_path / "given", outside=True)
    with pytest.raises(ModelError, match="cannot be written"):
        save.save_model(given, tmp_path / "nowhere", NAME)
    (tmp_path / "given" / "weights.bin").unlink()
    with pytest.raises(ModelError, match="cannot be written"):
        save.save_model(given, tmp_path, NAME)
