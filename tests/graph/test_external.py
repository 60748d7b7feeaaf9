"""The files that a model refers to are found wherever it does so."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx_cases import onnx_text

from onnxlint_q.graph.loading.external import external_files


def tensor(location: str) -> onnx.TensorProto:
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
    proto.graph.initializer.append(tensor("initializer.bin"))
    proto.graph.node[0].attribute[0].g.initializer.append(tensor("sub/branch.bin"))
    proto.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["s"], ["o"], value=tensor("attribute.bin")))
    proto.graph.sparse_initializer.add().values.CopyFrom(tensor("sparse.bin"))
    body = [onnx.helper.make_node("Constant", [], ["r"], value=tensor("function.bin"))]
    proto.functions.add(name="f", domain="d").node.extend(body)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    names = ("initializer.bin", "sub/branch.bin", "attribute.bin", "sparse.bin", "function.bin")
    assert external_files(path) == {tmp_path / name for name in names}


def test_a_file_that_is_no_model_refers_to_nothing(tmp_path: Path, models: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 not a model")
    assert external_files(tmp_path / "a.npz") == external_files(tmp_path / "none") == frozenset()
    assert external_files(models / "healthy_resnet.onnx") == frozenset()
