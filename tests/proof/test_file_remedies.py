"""Remedies that `compare` tries on the quantised file itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser

from onnxlint_q import compare

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
FLOAT = f"""{HEAD}
joined (float[N, 4] x) => (float[N, 8] y) {{
  [loud] loud = Mul (x, c)
  [score] score = Sigmoid (x)
  [join] y = Concat <axis: int = 1> (loud, score)
}}"""


def _pair(join: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A float model, and its file with one scale for loud values and scores, at the output."""
    quantised = FLOAT.replace("y = Concat <axis: int = 1> (loud, score)", join)
    made = []
    for text in (FLOAT, quantised):
        model = onnx.parser.parse_model(text)
        for name, value in (("c", np.float32(300)), ("s", np.float32(8)), ("z", np.uint8(128))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
        made.append(model)
    return made[0], made[1]


def _data() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)


def test_a_join_that_is_left_in_float_is_tried_on_the_file() -> None:
    join = """joined = Concat <axis: int = 1> (loud, score)
  [q] codes = QuantizeLinear (joined, s, z)
  [dq] y = DequantizeLinear (codes, s, z)"""
    found = compare(*_pair(join), _data()).quantized.findings
    tried = [finding for finding in found if finding.tried is not None]
    assert tried, [finding.message for finding in found]
    first = tried[0].tried
    assert first is not None and "'join' in float was tried and helps" in first.said
    assert first.before_db is not None and (first.after_db is None or first.after_db > first.before_db + 10)
    assert "Untried" not in tried[0].advice
