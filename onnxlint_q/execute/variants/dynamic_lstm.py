"""LSTM as `quantize_dynamic` leaves it: ONNX Runtime's DynamicQuantizeLSTM.

The kernel takes codes of the input for all steps together, and at each step of the state in front of R. No node outside
it sees that state, so the run has the kernel itself. Its weights are without sign here: with signed ones, kernels of
some processors saturate in between, and a figure would hang on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import Float, codes, weight_scale
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.executable import PREFIX, Array, Executable, without_unread
from onnxlint_q.execute.variants.rounding import DynamicScale, Rounding, add_domain
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import MICROSOFT

_CENTRE = 128
_OPERANDS = ("W", "R")
_OTHERS = 5
# Of LSTM there is `layout` beside, which the kernel does not know; 0 is what it has.
_ATTRIBUTES = frozenset(
    {"activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget"}
)


@dataclass(frozen=True, slots=True, eq=False)
class CodedWeight:
    """W or R as the kernel takes it.

    Attributes:
        codes: `[directions, inputs, 4 * hidden]`, without sign.
        scale: `[directions, 4 * hidden]`; zero is code 128.
    """

    codes: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DynamicLstm:
    """An LSTM whose weights and input are quantised.

    Attributes:
        output: key of its layer.
        input: the tensor that it reads, in float.
        weights: W and R.
    """

    output: str
    input: str
    weights: tuple[CodedWeight, ...]


def dynamic_lstms(
    measured: Measured, layers: Iterable[str], activations: Sequence[Rounding], scheme: Scheme
) -> tuple[DynamicLstm, ...]:
    """The layers of a run that are quantised whole and have such a kernel.

    Args:
        measured: the network.
        layers: keys of those whose weights are all quantised.
        activations: what is rounded beside.
        scheme: how.
    """
    rounded = {
        (reader, entry.tensor)
        for entry in activations
        if isinstance(entry, DynamicScale) and entry.elem_type == onnx.TensorProto.FLOAT
        for reader in entry.readers
    }
    asked = (measured.layer_by_output[key].folded for key in layers)
    return tuple(
        _quantised(measured.model, one, scheme)
        for one in asked
        if _has_kernel(one.layer.node) and (one.layer.node.output, one.layer.input) in rounded
    )


def _has_kernel(node: Node) -> bool:
    plain = node.int("layout", 0) == 0 and node.attributes.keys() <= _ATTRIBUTES | {"layout"}
    return node.op_type == "LSTM" and node.is_standard and plain


def _quantised(model: Model, folded: FoldedLayer, scheme: Scheme) -> DynamicLstm:
    weights = tuple(_coded(operand.matrix(model), operand, scheme) for operand in folded.operands)
    return DynamicLstm(folded.output, folded.layer.input, weights)


def _coded(matrix: Float, operand: FoldedLayer, scheme: Scheme) -> CodedWeight:
    own, (directions, rows, inputs) = scheme.of_layer(operand.layer), operand.layer.weight_shape
    scale = weight_scale(matrix, own.weights, own.sharing, operand.layer.scale_sharing)
    stored = codes(matrix, scale, own.weights).reshape(directions, rows, inputs) + _CENTRE
    by_row = np.broadcast_to(scale, (directions * rows, 1)).reshape(directions, rows)
    return CodedWeight(np.ascontiguousarray(stored.swapaxes(1, 2), np.uint8), np.ascontiguousarray(by_row, np.float32))


def with_kernels(executable: Executable, layers: Sequence[DynamicLstm]) -> Executable:
    """The variant in which these nodes are computed by the quantised kernel."""
    if not layers:
        return executable
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    add_domain(proto)
    found = {name: node for node in proto.graph.node for name in node.output if name}
    for number, layer in enumerate(layers):
        node, named = found[layer.output], dict[str, str]()
        for operand, weight in zip(_OPERANDS, layer.weights, strict=True):
            for what, value in _inputs(weight).items():
                named[f"{operand}_{what}"] = name = f"{PREFIX}{operand}_{what}{number}"
                proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        # Bias, lengths, first states and peepholes; what is left out at the end is empty here.
        others = [*node.input[3:], *[""] * _OTHERS][:_OTHERS]
        parameters = (named[f"{operand}_{what}"] for operand in _OPERANDS for what in ("scale", "zero"))
        node.op_type, node.domain = "DynamicQuantizeLSTM", MICROSOFT
        for place in reversed(range(len(node.attribute))):
            if node.attribute[place].name not in _ATTRIBUTES:
                del node.attribute[place]
        node.input[:] = [layer.input, *(named[f"{operand}_codes"] for operand in _OPERANDS), *others, *parameters]
    return without_unread(replace(executable, proto=proto))


def _inputs(weight: CodedWeight) -> Mapping[str, Array]:
    return {
        "codes": weight.codes,
        "scale": weight.scale,
        "zero": np.full(weight.scale.shape, _CENTRE, np.uint8),
    }
