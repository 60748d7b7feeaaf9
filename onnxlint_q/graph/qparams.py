"""Scale/zero-point pairs, found by what is connected to what and never by a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import onnx

from onnxlint_q.graph.codes.definition import has_packed_weight
from onnxlint_q.graph.codes.trained import code_ends, is_quant
from onnxlint_q.graph.element_types import integer_type
from onnxlint_q.graph.layers import Layer, is_integer_graph
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import Codes, Product, Trait
from onnxlint_q.graph.stored.packed import Packed, constant_type, packed_weights
from onnxlint_q.graph.stored.restored import Restored, restored
from onnxlint_q.graph.stored.rounded import Rounded
from onnxlint_q.graph.stored.sharing import axis_and_block
from onnxlint_q.graph.stored.tensor import QuantizedTensor, Role
from onnxlint_q.graph.trace import trace_forward


class Format(StrEnum):
    """How a model is quantised: the kinds of quantised layers it holds.

    It is weight-only where weights are stored in codes and layers read activations that nothing has rounded.
    """

    FLOAT = "float"
    QDQ = "qdq"
    QOPERATOR = "qoperator"
    DYNAMIC = "dynamic"
    WEIGHT_ONLY = "weight-only"
    MIXED = "mixed"


_T = onnx.TensorProto

# A constant is still what it was for behind them.
_HANDS_ON = Trait.COPIES | Trait.QUANTIZES | Trait.MOVES


def find_quantized_tensors(model: Model) -> Iterator[QuantizedTensor]:
    """Every pair of the model in data order; a pair repeated with the same parameters is given once."""
    seen: set[tuple[str, str, str]] = set()
    for node in model.nodes:
        for found in _pairs_of(model, node):
            key = (found.codes, found.scale, found.zero_point)
            if key not in seen:
                seen.add(key)
                yield found


def detect_format(model: Model, layers: Iterable[Layer]) -> tuple[Format, bool]:
    """The format by its layers, and whether these compute with codes whose scale is nowhere in the file.

    It is QDQ where float layers read dequantised tensors, and so on.

    An integer graph without any pair is QOperator: its operators take codes and give codes.

    Args:
        model: the model.
        layers: all of its layers.

    Raises:
        ModelError: a weight cannot be read.
    """
    kinds: set[Format] = set()
    rounded = Format.QDQ if any(_rounds_activation(model, node) for node in model.nodes) else Format.WEIGHT_ONLY
    for node in model.nodes:
        operator = node.operator
        if operator.has(Trait.DYNAMIC):
            kinds.add(Format.DYNAMIC)
        elif has_packed_weight(node):
            kinds.add(Format.WEIGHT_ONLY)
        elif operator.codes is not None or (operator.layer is not None and operator.layer.is_integer_product):
            if not _reads_dynamic(model, node):
                kinds.add(Format.QOPERATOR)
        elif operator.layer is not None and _reads_codes(model, node):
            kinds.add(rounded)
    if not kinds:
        if any(node.operator.has(Trait.QUANTIZES) for node in model.nodes):
            return Format.QDQ, False
        bare = is_integer_graph(model, layers)
        return (Format.QOPERATOR if bare else Format.FLOAT), bare
    return (kinds.pop() if len(kinds) == 1 else Format.MIXED), False


def _rounds_activation(model: Model, node: Node) -> bool:
    """Whether a node of its own rounds or makes real again what depends on the inputs."""
    static = node.operator.has(Trait.QUANTIZES) and not node.operator.has(Trait.DYNAMIC)
    return static and bool(node.output) and not model.is_constant(node.output)


def _reads_dynamic(model: Model, node: Node) -> bool:
    producer = model.producer(node.input(0))
    return producer is not None and producer.operator.has(Trait.DYNAMIC)


def _reads_codes(model: Model, node: Node) -> bool:
    """Whether an operand of a float layer was codes."""
    for key in filter(None, node.inputs):
        producer = model.producer(key)
        if producer is not None and producer.operator.has(Trait.QUANTIZES):
            return True
        chain = model.constants.chain(key) if model.is_constant(key) else ()
        if any(step.operator.has(Trait.QUANTIZES) or restored(model, step) is not None for step in chain):
            return True
    return False


def _pairs_of(model: Model, node: Node) -> Iterable[QuantizedTensor]:
    if node.op_type == "QuantizeLinear":
        return [_quantize(model, node)]
    if node.op_type == "DequantizeLinear":
        return [_dequantize(model, node)]
    if node.op_type == "DynamicQuantizeLinear":
        outputs = (*node.outputs, "", "", "")
        return [
            QuantizedTensor(
                Role.ACTIVATION,
                node.input(0),
                outputs[0],
                node,
                outputs[1],
                outputs[2],
                elem_type=_T.UINT8,
                dynamic=True,
            )
        ]
    if is_quant(node):
        return _trained(model, node)
    if (found := restored(model, node)) is not None:
        return _restored(model, node, found)
    if packed := packed_weights(model, node):
        return [_packed(node, one) for one in packed]
    operator = node.operator
    if operator.codes is not None:
        return _qoperator(model, node, operator.codes)
    if operator.layer is not None and operator.layer.is_integer_product:
        return _integer_product(model, node)
    return ()


def _quantize(model: Model, node: Node) -> QuantizedTensor:
    role = _constant_role(model, node.output) if model.is_constant(node.input(0)) else Role.ACTIVATION
    elem_type = _elem_type(model, node.input(2)) or node.int("output_dtype", 0) or _elem_type(model, node.output)
    return _made(node, role, node.input(0), node.output, node.input(1), node.input(2), elem_type or _T.UINT8)


def _dequantize(model: Model, node: Node) -> QuantizedTensor:
    codes = node.input(0)
    role = _constant_role(model, codes) if model.is_constant(codes) else Role.ACTIVATION
    elem_type = _elem_type(model, codes) or _elem_type(model, node.input(2))
    return _made(node, role, node.output, codes, node.input(1), node.input(2), elem_type)


def _made(
    node: Node, role: Role, tensor: str, codes: str, scale: str, zero_point: str, elem_type: int
) -> QuantizedTensor:
    axis, block = node.int("axis", 1), node.int("block_size", 0)
    return QuantizedTensor(role, tensor, codes, node, scale, zero_point, axis, block, elem_type)


def _qoperator(model: Model, node: Node, codes: Codes) -> Iterator[QuantizedTensor]:
    layer = node.operator.layer
    outputs_first = layer is not None and (layer.product is Product.CONVOLUTION or node.int("transB", 0) != 0)
    axis = 0 if outputs_first else -1
    for slot, scale, zero_point in codes.triples(len(node.inputs)):
        key, role = node.input(slot), Role.ACTIVATION
        if model.is_constant(key):
            role = Role.WEIGHT if layer is not None else Role.CONSTANT
        dtype = _elem_type(model, key) or _elem_type(model, node.input(zero_point))
        yield QuantizedTensor(role, key, key, node, node.input(scale), node.input(zero_point), axis, 0, dtype)
    if codes.writes is not None:
        yield _output_of(model, node, *codes.writes)


def _output_of(model: Model, node: Node, scale: int, zero_point: int) -> QuantizedTensor:
    key, dtype = node.output, _elem_type(model, node.input(zero_point)) or _elem_type(model, node.output)
    return QuantizedTensor(Role.ACTIVATION, key, key, node, node.input(scale), node.input(zero_point), 1, 0, dtype)


def _packed(node: Node, one: Packed) -> QuantizedTensor:
    layer, layout = node.operator.layer, one.layout
    return QuantizedTensor(
        Role.WEIGHT if layer is not None else Role.CONSTANT,
        one.codes,
        one.codes,
        node,
        one.scale,
        one.zero_point,
        layout.axis,
        layout.block_size,
        integer_type(layout.code_range) if layout.code_range is not None else 0,
        held=one,
        ends=layout.code_range,
    )


def _restored(model: Model, node: Node, found: Restored) -> Iterator[QuantizedTensor]:
    role = _constant_role(model, found.tensor)
    if role in {Role.WEIGHT, Role.BIAS}:
        codes = constant_type(model, found.codes)
        axis, block = axis_and_block(found.read_scale(model), codes.shape or ())
        yield QuantizedTensor(
            role, found.tensor, found.codes, node, found.factor, "", axis, block, codes.elem_type, held=found
        )


def _trained(model: Model, node: Node) -> Iterator[QuantizedTensor]:
    """A Quant: it rounds and makes real again, so what it makes stands for the codes."""
    constant = model.is_constant(node.output)
    bits = model.constant(node.input(3)) if node.input(3) else None
    ends = code_ends(node, bits)
    if ends is None:
        return
    found = Rounded(node)
    axis, block = axis_and_block(found.read_scale(model), model.shape(node.input(0)) or ())
    yield QuantizedTensor(
        _constant_role(model, node.output) if constant else Role.ACTIVATION,
        node.input(0),
        node.output,
        node,
        node.input(1),
        node.input(2),
        axis,
        block,
        integer_type(ends),
        held=found,
        ends=ends,
    )


def _integer_product(model: Model, node: Node) -> Iterator[QuantizedTensor]:
    """What ConvInteger or MatMulInteger multiplies; the scales stand further down, in the Mul that rescales.

    Codes of an activation have a pair where they are made, unless they were picked from a constant, as a quantised
    embedding table is: then this is the only operator that tells what they mean.
    """
    key, scales = node.input(1), _rescale_constants(model, node)
    picked = tuple(_picked(model, node.input(0)))
    if not model.is_constant(key):
        return
    layer = node.operator.layer
    axis = 0 if layer is not None and layer.product is Product.CONVOLUTION else -1
    # Written in the order of the operands.
    scale = scales[-1] if scales else ""
    yield QuantizedTensor(Role.WEIGHT, key, key, node, scale, node.input(3), axis, 0, _elem_type(model, key))
    for codes in picked if len(scales) > 1 else ():
        dtype = _elem_type(model, codes) or _elem_type(model, node.input(2))
        yield QuantizedTensor(Role.ACTIVATION, codes, codes, node, scales[0], node.input(2), -1, 0, dtype)


def _picked(model: Model, codes: str) -> Iterator[str]:
    """The codes and those that they were moved from, back to a constant; nothing where they come from elsewhere."""
    chain = []
    maker = model.producer(codes)
    while maker is not None and maker.operator.has(Trait.MOVES) and not model.is_constant(codes):
        chain.append(codes)
        codes = maker.input(0)
        maker = model.producer(codes)
    if model.is_constant(codes):
        yield from chain


def _rescale_constants(model: Model, node: Node) -> tuple[str, ...]:
    """Keys of the constants that the integer product is multiplied with on its way to float.

    ONNX Runtime writes product -> Cast -> Mul(x_scale * w_scale), the inner Mul having the constant w_scale, and
    x_scale too where the input was quantised before the model ran.
    """
    cast = model.sole_consumer(node.output)
    if cast is None or cast.op_type != "Cast":
        return ()
    rescale = model.sole_consumer(cast.output)
    if rescale is None or rescale.op_type != "Mul":
        return ()
    for key in rescale.inputs:
        factor = model.producer(key)
        inner = factor.inputs if factor is not None and factor.op_type == "Mul" else ()
        found = tuple(candidate for candidate in inner if model.is_constant(candidate))
        if found or model.is_constant(key):
            return found or (key,)
    return ()


def _constant_role(model: Model, codes: str) -> Role:
    """What a constant is for, by the layer that finally reads it."""
    for key in trace_forward(model, codes, _HANDS_ON).tensors:
        for reader in model.consumers(key):
            layer, slot = reader.operator.layer, reader.inputs.index(key)
            if layer is not None and layer.is_float and (not layer.operands or slot in reader.operator.weight_inputs):
                return Role.BIAS if slot == layer.bias else Role.WEIGHT
    return Role.CONSTANT


def _elem_type(model: Model, key: str) -> int:
    if not key:
        return 0
    tensor = model.constants.initializer(key)
    if tensor is not None:
        return tensor.data_type
    known = model.types.get(key)
    return known.elem_type if known else 0
