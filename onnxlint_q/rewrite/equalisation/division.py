"""The model whose channels are divided by factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph import Layer, Model, Node, find_layers
from onnxlint_q.graph.names import ROOT
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.equalisation.passing import is_restored, limits
from onnxlint_q.rewrite.equalisation.ties import input_channels, scaled_weight

Factors = npt.NDArray[np.float64]
WHY = "equalised"
# From this opset on a Clip reads its bounds.
_BOUNDS_ARE_INPUTS = 11
# Constants of these meet the channels that are divided, and are divided with them.
_MEETING = frozenset({"Add", "Sub", "Sum", "Mean", "Max", "Min"})


def divided(model: Model, factors: Mapping[str, Factors]) -> Model:
    """A copy of a model in which tensors are divided, and the layers that read them multiply again.

    Args:
        model: stays as it is.
        factors: by tensor key what each value is divided by, broadcastable against the tensor.
    """
    edit = _Division(model, factors)
    for node in model.nodes:
        if node.graph == ROOT and any(key in factors for key in (*node.inputs, *node.outputs)):
            edit.visit(node)
    return edit.edit.done()


class _Division:
    def __init__(self, model: Model, factors: Mapping[str, Factors]) -> None:
        self.model = model
        self.factors = factors
        self.edit = Edit(model)
        self.layers = {layer.node: layer for layer in find_layers(model)}

    def visit(self, node: Node) -> None:
        """Change what a node reads, or what it is."""
        layer = self.layers.get(node)
        if layer is not None:
            self._layer(layer)
        elif node.is_standard and node.op_type in _MEETING and node.output in self.factors:
            for slot, key in enumerate(node.inputs):
                if key and self.model.is_constant(key):
                    self._divide(node, slot, self.factors[node.output])
        elif node.is_standard and node.op_type == "Clip" and node.output in self.factors:
            self._bound(node, self.factors[node.output])
        elif node.input(0) in self.factors and is_restored(self.model, node):
            self._restore(node, self.factors[node.input(0)])

    def _layer(self, layer: Layer) -> None:
        reads = self._along(layer.input, input_channels(layer))
        writes = self._along(layer.output, layer.channels)
        weight = self.model.constants[layer.weight].astype(np.float64)
        scaled = scaled_weight(layer, weight, reads, writes)
        self.edit.replace_constant(layer.output, layer.inputs.weight, scaled, WHY)
        if layer.bias and layer.output in self.factors and layer.inputs.bias is not None:
            self._divide(layer.node, layer.inputs.bias, writes)

    def _along(self, key: str, channels: int) -> Factors:
        """One factor a channel."""
        factors = self.factors.get(key)
        return np.ones(channels) if factors is None else np.broadcast_to(factors.ravel(), channels)

    def _divide(self, node: Node, slot: int, by: Factors) -> None:
        value = self.model.constants[node.input(slot)].astype(np.float64)
        self.edit.replace_constant(node.output, slot, value / by, WHY)

    def _restore(self, node: Node, by: Factors) -> None:
        """Multiply what a gate reads again."""
        key = node.input(0)
        made, known = self.edit.node(node.output), self.model.types[key].elem_type
        held, name = made.input[0], f"{node.name}_restored" if node.name else ""
        given = self.edit.constant(by.astype(onnx.helper.tensor_dtype_to_np_dtype(known)), f"{held}_factors")
        restored = self.edit.free_name(f"{held}_restored")
        self.edit.insert_after(key, [onnx.helper.make_node("Mul", [held, given], [restored], name=name)])
        self.edit.read(node.output, 0, restored)

    def _bound(self, node: Node, by: Factors) -> None:
        """A Clip has one bound for all channels: it cuts at the widest, and what follows at that of each channel.

        Quantisers take a Clip into the layer before it, so the tensor between reaches no further than its bounds.
        """
        made, known = self.edit.node(node.output), self.model.types[node.output].elem_type
        kind = onnx.helper.tensor_dtype_to_np_dtype(known)
        result = made.output[0]
        bounds = [bound / by for bound in limits(self.model, node)]
        steps = [
            (op_type, bound)
            for op_type, bound in zip(("Max", "Min"), bounds, strict=True)
            if np.isfinite(bound).all() and np.ptp(bound) > 0
        ]
        widest = [float(bounds[0].min()), float(bounds[1].max())]
        self._set_bounds(made, widest, kind)
        if not steps:
            return
        held = made.output[0] = self.edit.free_name(f"{result}_cut")
        following = []
        for number, (op_type, bound) in enumerate(steps, start=1):
            name = f"{node.name}_{op_type.lower()}" if node.name else ""
            after = result if number == len(steps) else self.edit.free_name(f"{result}_cut")
            given = self.edit.constant(bound.astype(kind), f"{result}_bound")
            following.append(onnx.helper.make_node(op_type, [held, given], [after], name=name))
            held = after
        self.edit.insert_after(result, following)

    def _set_bounds(self, made: onnx.NodeProto, bounds: Sequence[float], kind: Any) -> None:
        """Give a Clip other bounds, where its opset keeps them."""
        if self.model.opset < _BOUNDS_ARE_INPUTS:
            del made.attribute[:]
            made.attribute.extend(
                onnx.helper.make_attribute(name, bound)
                for name, bound in zip(("min", "max"), bounds, strict=True)
                if math.isfinite(bound)
            )
            return
        for name in made.input[1:]:
            self.edit.leave(name)
        given = [
            self.edit.constant(np.asarray(bound, kind), f"{made.output[0]}_{name}") if math.isfinite(bound) else ""
            for name, bound in zip(("min", "max"), bounds, strict=True)
        ]
        made.input[1:] = given if given[1] else given[:1]
