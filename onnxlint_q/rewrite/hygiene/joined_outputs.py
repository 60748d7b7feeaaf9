"""Outputs that join several things: each part becomes an output of its own.

A detector puts boxes of hundreds of pixels and scores from 0 to 1 side by side in one tensor. One scale for both leaves
the scores no code. The join goes, and what only moved the joined values moves each part. Put together again along the
axis that the candidate names, the new outputs are the old one; whoever calls the model has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import onnx

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.outputs.joins import moved_axis
from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.graph import Model, Node, Trait
from onnxlint_q.graph.names import ROOT
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety


@dataclass(frozen=True, slots=True)
class Parts(Candidate):
    """An output that is to be several.

    Attributes:
        axis: along which it is joined.
        bounds: where the parts begin, and where the last one ends.
        names: of the new outputs, in order.
    """

    axis: int
    bounds: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def change(self) -> str:
        """The new outputs."""
        ranges = (f"{start} to {stop - 1}" for start, stop in pairwise(self.bounds))
        told = " and ".join(f"{name!r} ({part})" for name, part in zip(self.names, ranges, strict=True))
        return f"it becomes the outputs {told} of axis {self.axis}"


def find(measured: Measured, _: Observations | None) -> Iterator[Parts | Refusal]:
    """Every output with parts of different kinds."""
    for output in measured.outputs if measured.is_float else ():
        if output.parts:
            yield _looked_at(measured.model, output)


def _looked_at(model: Model, output: Output) -> Parts | Refusal:
    if output.name in {value.name for value in model.inputs} or model.consumers(output.name):
        return Refusal(output.name, "nodes of the model read it as well")
    names = [name for number in range(len(output.parts)) if (name := f"{output.name}_{number}") not in model.flow]
    bounds = (output.parts[0].start, *(part.stop for part in output.parts))
    if len(names) != len(output.parts):
        return Refusal(output.name, "names for its parts are taken")
    one = Parts(output.name, output.parts[0].axis, bounds, tuple(names))
    try:
        _split(Edit(model), model, one)
    except _WholeError as error:
        return Refusal(output.name, str(error))
    return one


def apply(model: Model, wanted: Sequence[Parts]) -> Model:
    """A copy of the model with these outputs in parts."""
    edit = Edit(model)
    for one in wanted:
        _split(edit, model, one)
    return edit.done()


def _split(edit: Edit, model: Model, one: Parts) -> None:
    """Make the parts of an output.

    Raises:
        _WholeError: something on the way cannot be done part by part.
    """
    splitter = _Splitter(model, edit.free_name)
    made = list[onnx.ValueInfoProto]()
    known = model.types[one.tensor]
    for name, (start, stop) in zip(one.names, pairwise(one.bounds), strict=True):
        splitter.part(one.tensor, one.axis, start, stop, name)
        shape = list(known.shape or ())
        shape[one.axis] = stop - start
        made.append(onnx.helper.make_tensor_value_info(name, known.elem_type, shape))
    edit.replace_output(one.tensor, made, splitter.nodes)


class _WholeError(Exception):
    """A tensor cannot be made in parts; the text says why, half a sentence for the user."""


class _Splitter:
    """Makes parts of tensors by nodes of their own.

    Attributes:
        nodes: made so far, in data order.
    """

    def __init__(self, model: Model, free_name: Callable[[str], str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._model = model
        self._free_name = free_name

    def part(self, tensor: str, axis: int, start: int, stop: int, name: str = "") -> str:
        """The name of what holds a part of a tensor; `name` where one is asked for."""
        node, shape = self._model.producer(tensor), self._model.shape(tensor)
        if shape is not None and (start, stop) == (0, shape[axis]):
            return self._make("Identity", [tensor], name) if name else tensor
        if node is None or node.graph != ROOT or not node.is_standard:
            raise _WholeError(f"{tensor!r} is joined by no Concat of its parts")
        if node.op_type == "Concat":
            return self._concat(node, axis, start, stop, name)
        return self._moved(node, axis, start, stop, name)

    def _concat(self, node: Node, axis: int, start: int, stop: int, name: str) -> str:
        model, along = self._model, node.int("axis", 0)
        rank = len(model.shape(node.output) or ())
        along += rank * (along < 0)
        if along != axis:
            return self._make("Concat", [self.part(key, axis, start, stop) for key in node.inputs], name, axis=along)
        lengths = [(model.shape(key) or ())[axis] or 0 for key in node.inputs]
        places = list(pairwise(accumulate(lengths, initial=0)))
        inside = [place for place, (first, last) in enumerate(places) if first < stop and last > start]
        parts = [
            self.part(node.inputs[place], axis, max(start, first) - first, min(stop, last) - first)
            for place, (first, last) in ((place, places[place]) for place in inside)
        ]
        if len(parts) == 1:
            return self._make("Identity", parts, name) if name else parts[0]
        return self._make("Concat", parts, name, axis=axis)

    def _moved(self, node: Node, axis: int, start: int, stop: int, name: str) -> str:
        """What only moves values moves those of the part."""
        model, source = self._model, node.input(0)
        rank = len(model.shape(source) or ())
        before = next((place for place in range(rank) if moved_axis(model, node, place) == axis), None)
        if before is None or not (node.operator.has(Trait.COPIES | Trait.RESHAPES) or node.op_type == "Transpose"):
            raise _WholeError(f"the {node.op_type} {node.label!r} does not keep its parts apart")
        others = list(node.inputs[1:])
        if node.op_type == "Reshape":
            others = [self._sizes(node, axis, stop - start)]
        part = self.part(source, before, start, stop)
        return self._make(node.op_type, [part, *others], name, **node.attributes)

    def _sizes(self, reshape: Node, axis: int, length: int) -> str:
        """The shape that a Reshape gives the part."""
        stored, known = self._model.constant(reshape.input(1)), self._model.shape(reshape.output) or ()
        shape = [-1 if size is None else size for size in known] if stored is None else [int(size) for size in stored]
        if stored is None and shape.count(-1) > 1:
            raise _WholeError(f"the shape of the Reshape {reshape.label!r} is computed")
        if shape[axis] > 0:
            shape[axis] = length
        name = self._free_name(f"{reshape.output}_part")
        value = onnx.numpy_helper.from_array(np.asarray(shape, np.int64))
        self.nodes.append(onnx.helper.make_node("Constant", [], [name], name=f"Constant_{name}", value=value))
        return name

    def _make(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        result = name or self._free_name(f"{inputs[0]}_part")
        made = onnx.helper.make_node(operator, inputs, [result], name=f"{operator}_{result}", **attributes)
        self.nodes.append(made)
        return result


def restored(graph: onnx.GraphProto, wanted: Sequence[Parts]) -> None:
    """Join the parts again: the outputs are those of the model that was given."""
    for one in wanted:
        places = [place for place, value in enumerate(graph.output) if value.name in one.names]
        graph.node.append(onnx.helper.make_node("Concat", one.names, [one.tensor], axis=one.axis))
        for place in reversed(places[1:]):
            del graph.output[place]
        graph.output[places[0]].Clear()
        graph.output[places[0]].name = one.tensor


REWRITE = Rewrite(
    name="joined-outputs",
    what="outputs split into what they join",
    safety=Safety.UNSAFE,
    find=find,
    apply=apply,
    restored=restored,
)
