"""Which products ONNX Runtime makes a Gemm of, against its own preparation of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text
from onnxruntime.quantization import quant_pre_process

from onnxlint_q.analysis.placement import added_bias, becomes_gemm

SUM = "h = MatMul(x, w) y = Add(h, b)"
OPEN, FIXED = "(float[N, 8] x) => (float[N, 4] y)", "(float[3, 8] x) => (float[3, 4] y)"
DEEP = "(float[2, 3, 8] x) => (float[2, 3, 4] y)"
CASES: dict[str, tuple[str, tuple[int, ...]]] = {
    "a vector": (f"{OPEN} {{ {SUM} }}", (4,)),
    "a vector in front": (f"{OPEN} {{ h = MatMul(x, w) y = Add(b, h) }}", (4,)),
    "one value": (f"{OPEN} {{ {SUM} }}", (1,)),
    "a scalar": (f"{OPEN} {{ {SUM} }}", ()),
    "a row": (f"{OPEN} {{ {SUM} }}", (1, 4)),
    "a matrix of one value": (f"{OPEN} {{ {SUM} }}", (1, 1)),
    "a matrix": (f"{FIXED} {{ {SUM} }}", (3, 4)),
    "a column": (f"{FIXED} {{ {SUM} }}", (3, 1)),
    "an axis more": ("(float[3, 8] x) => (float[1, 3, 4] y) { " + SUM + " }", (1, 1, 4)),
    "rank 3": (f"{DEEP} {{ {SUM} }}", (4,)),
    "rank 3 and a row": (f"{DEEP} {{ {SUM} }}", (1, 4)),
    "rank 3 and an open batch": ("(float[N, 3, 8] x) => (float[N, 3, 4] y) { " + SUM + " }", (4,)),
    "rank 4": ("(float[2, 2, 3, 8] x) => (float[2, 2, 3, 4] y) { " + SUM + " }", (4,)),
    "rank 1": ("(float[8] x) => (float[4] y) { " + SUM + " }", (4,)),
    "another reader": (f"{OPEN} {{ h = MatMul(x, w) a = Add(h, b) y = Mul(a, h) }}", (4,)),
    "an output": ("(float[N, 8] x) => (float[N, 4] y, float[N, 4] h) { " + SUM + " }", (4,)),
    "computed matrices": ("(float[3, 8] x, float[8, 4] z) => (float[3, 4] y) { h = MatMul(x, z) y = Add(h, b) }", (4,)),
    "a constant on the left": ("(float[8, 4] x) => (float[2, 4] y) { h = MatMul(l, x) y = Add(h, b) }", (4,)),
    "double precision": ("(double[N, 8] x) => (double[N, 4] y) { " + SUM + " }", (4,)),
    "half precision": ("(float16[N, 8] x) => (float16[N, 4] y) { " + SUM + " }", (4,)),
    "a stack of matrices": ("(float[2, 3, 8] x) => (float[2, 3, 4] y) { h = MatMul(x, s) y = Add(h, b) }", (4,)),
    "a rank that nothing tells": (
        "(float[N, 8] x, int64[K] shape) => (float[N, 4] y) { r = Reshape(x, shape) h = MatMul(r, w) y = Add(h, b) }",
        (4,),
    ),
}


# Whether they are of rank 2.
QUANTISED_AS_ONE = {
    "a vector": True,
    "a vector in front": True,
    "computed matrices": True,
    "half precision": True,
    "rank 1": False,
    "rank 3": False,
    "rank 4": False,
}


@pytest.mark.parametrize("case", CASES)
def test_a_product_becomes_a_gemm_where_the_preparation_makes_one(case: str, tmp_path: Path) -> None:
    text, shape = CASES[case]
    dtype = {"double": np.float64, "float16": np.float16}.get(text[1:].partition("[")[0], np.float32)
    held = {name: np.ones(size, dtype) for name, size in {"w": (8, 4), "s": (2, 8, 4), "l": (2, 8), "b": shape}.items()}
    proto = onnx_text(
        f"g {text}", **{name: value for name, value in held.items() if f" {name})" in text or f"({name}," in text}
    )
    onnx.save(proto, tmp_path / "float.onnx")
    quant_pre_process(str(tmp_path / "float.onnx"), str(tmp_path / "ready.onnx"), skip_symbolic_shape=True)
    kinds = {node.op_type for node in onnx.load(tmp_path / "ready.onnx").graph.node}
    model = as_model(proto)
    (product,) = model.nodes_of("MatMul")
    assert becomes_gemm(model, product) == ("Gemm" in kinds)
    bias = added_bias(model, product)
    assert (bias is not None) == (case in QUANTISED_AS_ONE)
    assert bias is None or (bias.key, bias.add.output, bias.whole) == ("b", "y", QUANTISED_AS_ONE[case])
