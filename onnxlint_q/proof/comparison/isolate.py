"""One operator of the float model alone, on its true inputs: what the quantised weight or the rounded input does to it.

The error at a result in the quantised file is what came with the inputs and what the operator adds. Here the inputs
are the float model's, so that what is left is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.analysis.grid import grid
from onnxlint_q.analysis.number_formats import sqnr_db
from onnxlint_q.analysis.pairing.match import PairedOperation, Pairing
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.readout import fed, matching
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.graph import Model, Node
from onnxlint_q.proof.comparison.compare import Runner
from onnxlint_q.proof.comparison.layer_weights import LayerWeights

Array = npt.NDArray[Any]
# Enough for a figure good to a dB; the experiment is repeated for each suspicious layer.
_SAMPLES = 4
# Conv, ConvTranspose, Gemm and MatMul with the bias as third input mean the same in every opset since 11.
_LAYER_OPSET = 13


@dataclass(frozen=True, slots=True)
class Isolated:
    """SQNR (dB) at its result, behind its rectifier; infinite for no error, None where it was not measured.

    Attributes:
        weight_db: with the quantised file's weight on the float input.
        input_db: with the float weight on the input rounded as in the quantised file.
        inherited_db: with the float weight on the input that the quantised file has, errors from before included.
    """

    weight_db: float | None
    input_db: float | None
    inherited_db: float | None


def isolate(
    pairing: Pairing, entry: PairedOperation, value: int, weights: LayerWeights | None, source: Source
) -> Isolated | None:
    """The experiment on one operator that reads one value; None where its float form cannot stand alone.

    Raises:
        ModelError, DataError: as when the whole model is run.
    """
    part = _part(entry, weights, pairing.reference.model)
    if part is None or len(entry.quantized.inputs) != 1:
        return None
    read, made = entry.reference.inputs[0], pairing.values[value]
    try:
        session = Session(part.proto)
    except NotRunnableError:
        return None
    held = pairing.quantized.values[entry.quantized.inputs[0]].quantized
    rounding = grid(pairing.quantized.model, held) if held is not None else None
    runner = Runner(pairing.reference, list(dict.fromkeys([read, made])))
    their_runner = Runner(pairing.quantized, [entry.quantized.inputs[0]])
    sums = np.zeros(4)
    for sample in source.take(pairing.reference.model.inputs, _SAMPLES):
        values = runner.run(sample)
        x, y = values[read], values[made]
        theirs = their_runner.run(fed(pairing.quantized.model, pairing.inputs, sample))
        inherited = matching(x, theirs[entry.quantized.inputs[0]])
        try:
            clean = _run(session, {"x": x, **part.exact})
            dirty = _run(session, {"x": x, **part.other})
            coarse = _run(session, {"x": x if rounding is None else rounding.round_trip(x), **part.exact})
            passed = _run(session, {"x": x if inherited is None else np.ascontiguousarray(inherited), **part.exact})
        except NotRunnableError:
            return None
        low, high = float(y.min(initial=0.0)), float(y.max(initial=0.0))
        if y.shape == clean.shape and np.allclose(np.clip(clean, low, high), y, rtol=1e-3, atol=1e-3 * (high - low)):
            clean, dirty, coarse, passed = (np.clip(a, low, high) for a in (clean, dirty, coarse, passed))
        sums += [_power(clean), _power(dirty - clean), _power(coarse - clean), _power(passed - clean)]
    signal, weight, inputs, before = (float(total) for total in sums)
    return Isolated(
        sqnr_db(signal, weight) if weights is not None else None,
        sqnr_db(signal, inputs) if rounding is not None else None,
        sqnr_db(signal, before),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A model of one operator that reads `x`, with what else it is fed: the float file's, or the quantised one's."""

    proto: Executable
    exact: Mapping[str, Array]
    other: Mapping[str, Array]


def _part(entry: PairedOperation, weights: LayerWeights | None, model: Model) -> _Part | None:
    node = entry.reference.node
    if len(entry.reference.inputs) != 1 or not node.is_standard or node.subgraphs:
        return None
    if weights is None:
        return _Part(_alone(node, ["x"], model.opset), {}, {}) if len(node.inputs) == 1 else None
    layer = weights.reference.layer
    if not layer.is_float:
        return None
    exact, other = (np.ascontiguousarray(layer.as_stored(m), np.float32) for m in (weights.exact, weights.other))
    values = weights.reference.bias(model)
    if values is None:
        return None
    bias = {"b": values} if layer.op_type != "MatMul" else {}
    names = [*(["w", "x"] if layer.weight_left else ["x", "w"]), *bias]
    return _Part(_alone(node, names, _LAYER_OPSET), {"w": exact, **bias}, {"w": other, **bias})


def _alone(node: Node, names: Sequence[str], opset: int) -> Executable:
    attributes = {name: held for name, held in node.attributes.items() if held is not None}
    made = helper.make_node(node.op_type, names, ["y"], **attributes)
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([made], "alone", inputs, [output])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return Executable(proto, {}, {})


def _run(session: Session, feeds: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    return np.asarray(session.run(feeds)[0], np.float32)


def _power(values: Array) -> float:
    return float(np.square(values.astype(np.float64)).sum())
