"""Models and schemes that `quantize` cannot do anything with: said before anything runs, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import onnx_text

import onnxlint_q
from onnxlint_q.errors import ModelError


def refused(folder: Path, model: onnx.ModelProto, scheme: str | None = None) -> str:
    onnx.save(model, folder / "float.onnx")
    with pytest.raises(ModelError) as raised:
        onnxlint_q.quantize(folder / "float.onnx", folder / "int8.onnx", "random", schemes=scheme)
    assert [path.name for path in folder.iterdir()] == ["float.onnx"]
    return str(raised.value)


def test_layers_in_branches_only(tmp_path: Path) -> None:
    model = onnx_text(
        "g (float[1, 4] x, bool c) => (float[1, 4] y) {"
        " y = If(c) <then_branch = a () => (float[1, 4] p) { p = MatMul(x, w) },"
        " else_branch = b () => (float[1, 4] q) { q = Identity(x) }> }",
        w=np.eye(4, dtype=np.float32),
    )
    said = refused(tmp_path, model)
    assert "its layers all lie in the bodies of If, Loop or Scan" in said and "export the model with one branch" in said


def test_nothing_to_quantise(tmp_path: Path) -> None:
    model = onnx_text("g (float[1, 4] x) => (float[1, 4] y) { y = Neg(x) }")
    assert "there is nothing in it that these schemes quantise" in refused(tmp_path, model)


def test_a_scheme_that_no_tool_writes(tmp_path: Path) -> None:
    model = onnx_text("g (float[1, 4] x) => (float[1, 4] y) { y = MatMul(x, w) }", w=np.eye(4, dtype=np.float32))
    assert "no quantiser of ONNX Runtime" in refused(tmp_path, model, "int8-weight-only")
