"""The opset raised to one that can store a scale a channel.

QuantizeLinear and DequantizeLinear have an `axis` from opset 13 on; a file of an older one that is quantised per
channel does not load. onnx's converter rewrites the nodes; it mistranslates some (Resize), so what it makes has to
be held against the float outputs like any other rewrite. Weights do not go through it: they are inputs meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.errors import ModelError
from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.build import rebuilt
from onnxlint_q.graph.tensors import is_external
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.hygiene.converter import NotConvertibleError, run_converter
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

NEEDED = 13
"""The first opset with one scale a channel."""
# 17 is what tools of today take; where the converter has no way there, the first that will do.
_TARGETS = (17, NEEDED)
# Shapes and axes decide how nodes are converted; nothing of so many values does.
_WEIGHT_VALUES = 256
# Region and scales of a Resize.
_PLACEHOLDERS = (1, 2)


@dataclass(frozen=True, slots=True)
class Raised(Candidate):
    """A model of an old opset.

    Attributes:
        old, new: opset before and after.
    """

    old: int
    new: int

    @property
    def change(self) -> str:
        """Both opsets."""
        return f"opset {self.old} becomes {self.new}"


def find(measured: Measured, _: Observations | None) -> Iterator[Raised | Refusal]:
    """The model as a whole, named by its first output, where its opset is too old and the converter has a way."""
    model = measured.model
    if not measured.is_float or model.opset >= NEEDED or not model.outputs:
        return
    place, reasons = model.outputs[0].name, list[str]()
    for target in _TARGETS:
        try:
            _converted(model, target)
        except (NotConvertibleError, ModelError) as error:
            reasons.append(str(error))
        else:
            yield Raised(place, model.opset, target)
            return
    yield Refusal(place, f"onnx's converter cannot raise opset {model.opset}: {reasons[-1]}")


def likely(measured: Measured) -> Collection[str]:
    """The first output of a model of an old opset: whether the converter has a way is seen by going it."""
    model = measured.model
    return [value.name for value in model.outputs[:1]] if measured.is_float and model.opset < NEEDED else []


def apply(model: Model, wanted: Sequence[Raised]) -> Model:
    """A copy of the model at the new opset."""
    for one in wanted:
        model = _converted(model, one.new)
    return model


def _converted(model: Model, target: int) -> Model:
    """The model at another opset.

    Raises:
        NotConvertibleError: the converter fails.
        ModelError: what it makes is no graph.
    """
    proto = Edit(model).done().proto
    weights, light = _without_weights(proto)
    code = (
        "import sys, onnx; model = onnx.ModelProto.FromString(sys.stdin.buffer.read()); "
        f"made = onnx.version_converter.convert_version(model, {target}); "
        "sys.stdout.buffer.write(made.SerializeToString())"
    )
    try:
        made = onnx.ModelProto.FromString(run_converter(code, light.SerializeToString()))
    except DecodeError as error:
        raise NotConvertibleError("the converter wrote what is no model") from error
    graph = made.graph
    graph.initializer.extend(weights)
    gone = {tensor.name for tensor in proto.graph.initializer} - {tensor.name for tensor in graph.initializer}
    del graph.input[:]
    graph.input.extend(value for value in proto.graph.input if value.name not in gone)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.CopyFrom(graph)
    del copy.opset_import[:]
    copy.opset_import.extend(made.opset_import)
    copy.ir_version = max(proto.ir_version, onnx.helper.find_min_ir_version_for(list(made.opset_import), True))
    return _without_placeholders(rebuilt(model, copy))


def _without_placeholders(model: Model) -> Model:
    """Omit the empty scales of a Resize with sizes: opset 11 wants both, and later ones refuse both."""
    edit = Edit(model)
    for node in model.nodes_of("Resize"):
        for slot in _PLACEHOLDERS:
            stored = model.constant(node.input(slot)) if node.input(slot) else None
            if stored is not None and not stored.size:
                edit.read(node.output, slot, "")
    return edit.done()


def _without_weights(proto: onnx.ModelProto) -> tuple[list[onnx.TensorProto], onnx.ModelProto]:
    """The large initializers of the main graph, and the model with inputs in their place; none has a default."""
    weights = [t for t in proto.graph.initializer if math.prod(t.dims) >= _WEIGHT_VALUES or is_external(t)]
    small = [t for t in proto.graph.initializer if math.prod(t.dims) < _WEIGHT_VALUES and not is_external(t)]
    stored = {tensor.name for tensor in proto.graph.initializer}
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    del light.graph.initializer[:], light.graph.input[:]
    light.graph.initializer.extend(small)
    light.graph.input.extend(value for value in proto.graph.input if value.name not in stored)
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in weights
    )
    return weights, light


REWRITE = Rewrite(
    name="opset",
    what="opset raised",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    moves_values=False,
    likely=likely,
)
