"""One layer of the float model alone, on its true inputs: what the quantised weight or the rounded input does to it.

The error at a layer's result in the quantised file is what came with its inputs and what the layer adds. Here the
inputs are the float model's, so that what is left is the layer's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.analysis.grid import Grid, grid
from onnxlint_q.analysis.pairing import PairedOperation, Pairing
from onnxlint_q.analysis.quantize import decibel
from onnxlint_q.calibration.compare import Runner
from onnxlint_q.calibration.data import Source
from onnxlint_q.calibration.executable import Executable
from onnxlint_q.calibration.layer_weights import LayerWeights
from onnxlint_q.calibration.session import NotRunnableError, Session

Array = npt.NDArray[Any]
# Enough for a figure good to a dB; the experiment is repeated for each suspicious layer.
_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Isolated:
    """SQNR (dB) at the layer's result, behind its rectifier; infinite for no error, None where it was not measured.

    Attributes:
        weight_db: with the quantised file's weight on the float input.
        input_db: with the float weight on the input rounded as in the quantised file.
    """

    weight_db: float | None
    input_db: float | None


def isolate(
    pairing: Pairing, entry: PairedOperation, value: int, weights: LayerWeights, source: Source
) -> Isolated | None:
    """The experiment on one layer; None where its float operator cannot stand alone.

    Raises:
        ModelError, DataError: as when the whole model is run.
    """
    layer = weights.reference.layer
    if not layer.is_float or len(entry.reference.inputs) != 1:
        return None
    model = pairing.reference.model
    bias = weights.reference.bias(model) if layer.op_type != "MatMul" else None
    read, made = entry.reference.inputs[0], pairing.values[value]
    try:
        session = Session(_alone(weights, bias is not None))
    except NotRunnableError:
        return None
    held = pairing.quantized.values[entry.quantized.inputs[0]].quantized if entry.quantized.inputs else None
    rounding = grid(pairing.quantized.model, held) if held is not None else None
    runner = Runner(pairing.reference, list(dict.fromkeys([read, made])))
    constants: dict[str, Array] = {} if bias is None else {"b": bias}
    exact, other = (np.ascontiguousarray(layer.as_stored(m), np.float32) for m in (weights.exact, weights.other))
    sums = np.zeros(3)
    for sample in source.take(model.inputs, _SAMPLES):
        values = runner.run(sample)
        x, y = values[read], values[made]
        try:
            clean = _run(session, {"x": x, "w": exact, **constants})
            dirty = _run(session, {"x": x, "w": other, **constants})
            coarse = _run(session, {"x": _rounded(x, rounding), "w": exact, **constants})
        except NotRunnableError:
            return None
        low, high = float(y.min(initial=0.0)), float(y.max(initial=0.0))
        if y.shape == clean.shape and np.allclose(np.clip(clean, low, high), y, rtol=1e-3, atol=1e-3 * (high - low)):
            clean, dirty, coarse = (np.clip(array, low, high) for array in (clean, dirty, coarse))
        sums += [_power(clean), _power(dirty - clean), _power(coarse - clean)]
    signal, weight, inputs = (float(total) for total in sums)
    return Isolated(_decibel(signal, weight), _decibel(signal, inputs) if rounding is not None else None)


def _alone(weights: LayerWeights, biased: bool) -> Executable:
    """A model of the one operator, weight and bias as inputs."""
    layer = weights.reference.layer
    names = ["w", "x"] if layer.weight_left else ["x", "w"]
    attributes = {name: held for name, held in layer.node.attributes.items() if held is not None}
    node = helper.make_node(layer.op_type, names + ["b"] * biased, ["y"], **attributes)
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ["x", "w", *["b"] * biased]]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "alone", inputs, [output])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return Executable(proto, {}, {})


def _run(session: Session, feeds: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    return np.asarray(session.run(feeds)[0], np.float32)


def _rounded(x: Array, held: Grid | None) -> Array:
    if held is None:
        return x
    step = np.float32(held.scale)
    return np.clip(np.rint(x / step) * step, np.float32(held.low), np.float32(held.high))


def _power(values: Array) -> float:
    return float(np.square(values.astype(np.float64)).sum())


def _decibel(signal: float, noise: float) -> float | None:
    return math.inf if noise == 0 < signal else decibel(signal, noise)
