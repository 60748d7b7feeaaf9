"""What one file computes and the other does not: activations that are gone, attributes that differ."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from onnxlint_q.analysis.grid import Grid, grid
from onnxlint_q.analysis.observed.readings import MissingActivation
from onnxlint_q.analysis.pairing.match import PairedOperation, Pairing
from onnxlint_q.analysis.pairing.skeleton import Operation
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import StaticScale, Trait

# Attributes that say how a tensor is stored, or are written in two ways that mean the same.
_STORAGE = frozenset({"auto_pad", "channels_last", "to", "axis", "allowzero", "kernel_shape", "activation"})


def missing_activations(pairing: Pairing) -> Mapping[int, tuple[MissingActivation, ...]]:
    """Activations that the float file has behind a value and the quantised one has not, by value of the latter.

    A rectifier is not missing where the codes end where it ends, as those of an absorbed Relu end at 0.
    """
    found: dict[int, list[MissingActivation]] = defaultdict(list)
    behind = pairing.quantized.readers()
    for entry in pairing.operations:
        made = entry.quantized.outputs[:1]
        rectified = any(_rectifies(reader.node) for value in made for reader in behind.get(value, ()))
        for missing in () if rectified else _absorbed(pairing, entry):
            found[made[0]].append(missing)
    neighbours = _Neighbours(pairing)
    for operation in pairing.lost_reference:
        value = neighbours.passed(operation) if operation.node.operator.has(Trait.ACTIVATION) else None
        if value is not None:
            found[value].append(_missing(pairing, operation.node, value))
    return {value: tuple(missing) for value, missing in found.items()}


class _Neighbours:
    """What stands beside an operation of the float file that the quantised one does not have."""

    def __init__(self, pairing: Pairing) -> None:
        self.partner = {entry.reference: entry.quantized for entry in pairing.operations}
        self.values = {reference: value for value, reference in pairing.values.items()}
        self.readers, self.makers = pairing.reference.readers(), pairing.reference.makers()

    def passed(self, operation: Operation) -> int | None:
        """The value of the quantised file that goes on as it is where the float file has `operation`."""
        if len(operation.inputs) != 1 or len(operation.outputs) != 1:
            return None
        (read,), (made,) = operation.inputs, operation.outputs
        maker = self.makers.get(read)
        before = self.partner.get(maker) if maker is not None else None
        behind = [self.partner.get(reader) for reader in self.readers.get(made, ())]
        for value in (self.values.get(read), self.values.get(made)):
            if value is None:
                continue
            made_by = value == self.values.get(read) or (before is not None and value in before.outputs)
            if made_by and any(reader is not None and value in reader.inputs for reader in behind):
                return value
        return None


def _absorbed(pairing: Pairing, entry: PairedOperation) -> Iterator[MissingActivation]:
    """Rectifiers that belong to the float operation and neither stand behind the other nor end its codes."""
    theirs = entry.quantized
    if len(theirs.outputs) != 1 or theirs.node.text("activation", ""):
        return
    there = [node for node in theirs.nodes if _rectifies(node)]
    for node in filter(_rectifies, entry.reference.behind):
        found = _missing(pairing, node, theirs.outputs[0])
        held = _grid(pairing, theirs.outputs[0])
        step = held.scale if held is not None else 0.0
        clips = found.stored_low >= found.low - step / 2 and found.stored_high <= found.high + 1.5 * step
        if not clips and not there:
            yield found


def _grid(pairing: Pairing, value: int) -> Grid | None:
    pair = pairing.quantized.values[value].quantized
    return grid(pairing.quantized.model, pair) if pair is not None else None


def _rectifies(node: Node) -> bool:
    return node.operator.static is StaticScale.ABSORBED


def _missing(pairing: Pairing, node: Node, value: int) -> MissingActivation:
    held = _grid(pairing, value)
    low, high = _bounds(pairing.reference.model, node)
    return MissingActivation(
        node.label,
        node.op_type,
        low,
        high,
        held.low if held is not None else -math.inf,
        held.high if held is not None else math.inf,
        held.zero_point if held is not None else None,
        _rectifies(node),
    )


def _bounds(model: Model, node: Node) -> tuple[float, float]:
    """What an activation keeps its result within."""
    if node.op_type != "Clip":
        return node.operator.bounds or (-math.inf, math.inf)
    ends = []
    for slot, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        stored = model.constant(node.input(slot)) if node.input(slot) else None
        ends.append(node.float(name, default) if stored is None or not stored.size else float(np.ravel(stored)[0]))
    return ends[0], ends[1]


def differing_attributes(pairing: Pairing, entry: PairedOperation) -> Iterator[str]:
    """`alpha is 1, in the float model 0.1` of each attribute of the two operators that differs."""
    ours, theirs = entry.reference.node, entry.quantized.node
    if ours.operator.form != theirs.operator.form:
        return
    defaults = _defaults(ours, pairing.reference.model.opset)
    for name in sorted((ours.attributes.keys() | theirs.attributes.keys()) - _STORAGE):
        held = [_number(node.attributes.get(name, defaults.get(name))) for node in (ours, theirs)]
        if None not in held and held[0] != held[1]:
            yield f"{name} is {_shown(held[1])}, in the float model {_shown(held[0])}"


def _defaults(node: Node, opset: int) -> Mapping[str, object]:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return {}
    known = schema.attributes.items()
    return {name: onnx.helper.get_attribute_value(one.default_value) for name, one in known if one.default_value.type}


def _number(value: object) -> tuple[float, ...] | None:
    if isinstance(value, bool | int | float):
        return (float(np.float32(value)),)
    if isinstance(value, list | tuple) and all(isinstance(one, int | float) for one in value):
        return tuple(float(np.float32(one)) for one in value)
    return None


def _shown(value: tuple[float, ...] | None) -> str:
    return ", ".join(f"{one:.3g}" for one in value or ())
