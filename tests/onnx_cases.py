"""Models written down in a test, and ONNX Runtime as the judge of what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime as ort

from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.build import build_model
from onnxlint_q.graph.loading.functions import inline_functions
from onnxlint_q.graph.tensors import TensorStore

Array = npt.NDArray[Any]


def onnx_text(graph: str, /, **arrays: npt.ArrayLike) -> onnx.ModelProto:
    """A model of opset 17 from ONNX text; `arrays` become initializers of these names."""
    return versioned_text(17, "", graph, **arrays)


def versioned_text(opset: int, domain: str, graph: str, /, **arrays: npt.ArrayLike) -> onnx.ModelProto:
    """The same for another opset, and with another domain where one is named."""
    imports = f'"" : {opset}' + f', "{domain}" : 1' * bool(domain)
    proto = onnx.parser.parse_model(f"<ir_version: {10 if opset > 20 else 8}, opset_import: [{imports}]>\n{graph}")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items())
    return proto


def detector() -> onnx.ModelProto:
    """Two scales, of which the coarse one flows back into the fine one, and heads that meet as rows of anchors."""
    text = """
    detector (float[N, 3, 32, 32] images) => (float[N, 80, 4] boxes, float[N, 80, 2] scores) {
      a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (images, stem)
      half = Relu(a)
      b = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (half, down)
      fine = Relu(b)
      c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (fine, deeper)
      coarse = Relu(c)
      up = Resize <mode = "nearest"> (coarse, , sides)
      both = Concat <axis = 1> (up, fine)
      d = Conv(both, mix)
      mixed = Relu(d)
      near = Conv(mixed, near_head)
      far = Conv(coarse, far_head)
      near_rows = Reshape(near, rows)
      far_rows = Reshape(far, rows)
      joined = Concat <axis = 2> (near_rows, far_rows)
      anchors = Transpose <perm = [0, 2, 1]> (joined)
      boxes, logits = Split <axis = 2> (anchors, parts)
      scores = Sigmoid(logits)
    }
    """
    random = np.random.default_rng(0)

    def weight(*shape: int) -> Array:
        return np.asarray(random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])), np.float32)

    return onnx_text(
        text,
        stem=weight(8, 3, 3, 3),
        down=weight(12, 8, 3, 3),
        deeper=weight(16, 12, 3, 3),
        mix=weight(12, 28, 1, 1),
        near_head=weight(6, 12, 1, 1),
        far_head=weight(6, 16, 1, 1),
        sides=np.asarray([1, 1, 2, 2], np.float32),
        rows=np.asarray([0, 6, -1]),
        parts=np.asarray([4, 2]),
    )


def as_model(proto: onnx.ModelProto) -> Model:
    """What `read_model` makes of a file with this content."""
    store = TensorStore(Path(), "case.onnx")
    return build_model(inline_functions(proto, "case.onnx"), store, path=Path("case.onnx"), sha256="")


def run(proto: onnx.ModelProto | Path, feeds: Mapping[str, Array], *, exact: bool = True) -> list[Array]:
    """All outputs; `exact` keeps ONNX Runtime from replacing operators by integer kernels that may saturate."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def sqnr_db(reference: Array, other: Array) -> float:
    """`10 log10(sum x^2 / sum (x - y)^2)`."""
    noise = np.square(reference.astype(np.float64) - other).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise)) if noise else float("inf")
