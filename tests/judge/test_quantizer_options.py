"""Options of ONNX Runtime's quantiser are printed as it takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from onnxlint_q.judge.quantizer_options import exclude_named, override

MODEL = """
<ir_version: 8, opset_import: ["" : 13]>
product (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> { [mm] y = MatMul(x, w) }
"""


class Ones(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.samples: Iterator[dict[str, Any]] = iter([{"x": np.ones((1, 4), np.float32)}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.samples, None)


def quantised(tmp_path: Path, option: str, quant_format: QuantFormat) -> onnx.GraphProto:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "float.onnx")
    options = eval(f"dict({option})", {"np": np})
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Ones(), quant_format=quant_format, **options)
    return onnx.load(tmp_path / "int8.onnx").graph


@pytest.mark.parametrize("quant_format", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_range_is_taken_over(tmp_path: Path, quant_format: QuantFormat) -> None:
    graph = quantised(tmp_path, override("x", -2.0, 3.1), quant_format)
    (scale,) = (t for t in graph.initializer if t.name == "x_scale")
    assert float(onnx.numpy_helper.to_array(scale)) == pytest.approx(5.1 / 255)


def test_a_node_is_left_in_float(tmp_path: Path) -> None:
    graph = quantised(tmp_path, exclude_named(["mm"]), QuantFormat.QOperator)
    assert [node.op_type for node in graph.node] == ["MatMul"]
    assert exclude_named(["mm", ""]) == ""
