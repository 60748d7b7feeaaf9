"""One operator of the float model alone, on its true inputs: what the quantised weight or the rounded input does to it.

The error at a result in the quantised file is what came with the inputs and what the operator adds. Here the inputs
are the float model's, so that what is left is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from onnxlint_q.proof.comparison.layer_weights import LayerWeights
from onnxlint_q.proof.comparison.run_both import Runner

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float32]
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
        before_db: with the float weight on what the layer before it makes with the quantised file's weight.
        left_db: in the quantised file as it is, on these samples.
    """

    weight_db: float | None
    input_db: float | None
    inherited_db: float | None
    before_db: float | None
    left_db: float | None

    def over_all(self, sqnr_db: float | None) -> Isolated:
        """The figures as over all samples, over which the quantised file has `sqnr_db` there.

        A few loud samples decide on a figure; those that were run alone are louder or quieter than all by as much in
        one experiment as in the other.
        """
        if sqnr_db is None or self.left_db is None or not math.isfinite(self.left_db):
            return self
        shift = sqnr_db - self.left_db
        names = ("weight_db", "input_db", "inherited_db", "before_db")
        figures = {name: getattr(self, name) for name in names}
        return replace(self, **{name: held + shift for name, held in figures.items() if held is not None})


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """An operation in both files with the value that it makes in the quantised one.

    Attributes:
        weights: None where it is no layer, or they cannot be read.
    """

    entry: PairedOperation
    value: int
    weights: LayerWeights | None


def isolate(pairing: Pairing, operation: Paired, before: Paired | None, source: Source) -> Isolated | None:
    """The experiment on one operator that reads one value; None where its float form cannot stand alone.

    `before` is the layer that makes this value, if one does.

    Raises:
        ModelError, DataError: as when the whole model is run.
    """
    alone = _alone(pairing, operation)
    if alone is None:
        return None
    layer_before = _alone(pairing, before) if before is not None and before.weights is not None else None
    read = operation.entry.quantized.inputs[0]
    value = pairing.quantized.values[read].quantized
    rounding = grid(pairing.quantized.model, value) if value is not None else None
    wanted = [alone.read, alone.made, *([layer_before.read] if layer_before is not None else [])]
    runner = Runner(pairing.reference, list(dict.fromkeys(wanted)))
    their_runner = Runner(pairing.quantized, list(dict.fromkeys([read, operation.value])))
    sums, left = np.zeros(5), np.zeros(2)
    for sample in source.take(pairing.reference.model.inputs, _SAMPLES):
        values = runner.run(sample)
        x, y = values[alone.read], values[alone.made]
        held = their_runner.run(fed(pairing.quantized.model, pairing.inputs, sample))
        theirs, made = matching(x, held[read]), matching(y, held[operation.value])
        left += [_power(y), _power(y if made is None else made - y)]
        try:
            lossy = layer_before.lossy(values[layer_before.read], x) if layer_before is not None else None
            if lossy is None:
                layer_before = None
            clean, *others = alone.results(
                x,
                y,
                (x, True),
                (x if rounding is None else rounding.round_trip(x), False),
                (x if theirs is None else theirs, False),
                (x if lossy is None else lossy, False),
            )
        except NotRunnableError:
            return None
        if operation.weights is None and not _same(clean, y):
            return None  # something is fused behind it, and decides what errors become
        sums += [_power(clean), *(_power(other - clean) for other in others)]
    signal, *noises = (float(total) for total in sums)
    weight_db, input_db, inherited_db, before_db = (sqnr_db(signal, noise) for noise in noises)
    return Isolated(
        weight_db if operation.weights is not None else None,
        input_db if rounding is not None else None,
        inherited_db,
        before_db if layer_before is not None else None,
        sqnr_db(*map(float, left)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Alone:
    """One operator of the float model in a session of its own, with the values that it reads and makes there."""

    session: Session
    part: _Part
    read: int
    made: int

    def results(self, x: Array, y: Array, *variants: tuple[Array, bool]) -> list[Float]:
        """On its float input, and on each variant of it, with the quantised file's weight where that is True.

        `y` is what the float model has behind it; where a rectifier makes the difference, all results get it.
        """
        results = [self._run(x, quantized=False), *(self._run(other, quantized=kind) for other, kind in variants)]
        rectified = [np.clip(result, y.min(initial=0.0), y.max(initial=0.0)) for result in results]
        return rectified if _same(rectified[0], y) else results

    def lossy(self, x: Array, y: Array) -> Float | None:
        """What it makes of its float input with the quantised file's weight; None where alone it does not make `y`."""
        clean, lossy = self.results(x, y, (x, True))
        return lossy if _same(clean, y) else None

    def _run(self, x: Array, *, quantized: bool) -> Float:
        feeds = {"x": np.ascontiguousarray(x), **(self.part.other if quantized else self.part.exact)}
        return np.asarray(self.session.run(feeds)[0], np.float32)


def _alone(pairing: Pairing, operation: Paired) -> _Alone | None:
    entry = operation.entry
    part = _part(entry, operation.weights, pairing.reference.model)
    if part is None or len(entry.quantized.inputs) != 1:
        return None
    try:
        return _Alone(Session(part.proto), part, entry.reference.inputs[0], pairing.values[operation.value])
    except NotRunnableError:
        return None


def _same(result: Float, y: Array) -> bool:
    tolerance = 1e-3 * float(y.max(initial=0.0) - y.min(initial=0.0))
    return y.shape == result.shape and bool(np.allclose(result, y, rtol=1e-3, atol=tolerance))


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
        return _Part(_model_of(node, ["x"], model.opset), {}, {}) if len(node.inputs) == 1 else None
    layer = weights.reference.layer
    if not layer.is_float:
        return None
    exact, other = (np.ascontiguousarray(layer.as_stored(m), np.float32) for m in (weights.exact, weights.other))
    values = weights.reference.bias(model)
    if values is None:
        return None
    bias = {"b": values} if layer.inputs.bias is not None else {}
    names = [*(["w", "x"] if layer.weight_left else ["x", "w"]), *bias]
    return _Part(_model_of(node, names, _LAYER_OPSET), {"w": exact, **bias}, {"w": other, **bias})


def _model_of(node: Node, names: Sequence[str], opset: int) -> Executable:
    attributes = {name: held for name, held in node.attributes.items() if held is not None}
    made = helper.make_node(node.op_type, names, ["y"], **attributes)
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([made], "alone", inputs, [output])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return Executable(proto, {}, {})


def _power(values: Array) -> float:
    return float(np.square(values.astype(np.float64)).sum())
