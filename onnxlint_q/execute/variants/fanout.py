"""Many variants of single tensors in one run, each computed only from its own tensor on.

The float network stays as it is. At the layer of variant `v` its float input is convolved once more with the quantised
weight; from there on `v` travels beside the float result, and so do variants whose activation is quantised, from where
it is rounded: an input of the graph, the result of a layer or of any other operator. Where only some readers get it
rounded, with a scale of each run, the variant starts at each of them. A tensor late in the network so costs little,
nothing upstream of it is computed twice, and one session serves all of them.

Variants travel together as elements of a batch, in pieces: what has joined last is small, and is put together with
what came before once it is as large. So there are few pieces, and an element is copied few times on its way.

Where branches meet, each is brought to the union of their variants; a branch that a variant did not touch gives its
float part. That needs every operator on the way to treat the elements of a batch alike, which is checked operator by
operator: a graph that mixes batch elements, or one that is not known not to, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.execute.batch.batch_rules import closed, keep_apart
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, Shapes, Tensors
from onnxlint_q.execute.executable import PREFIX, Executable, declare_external
from onnxlint_q.execute.variants.rounding import (
    ActivationScale,
    DynamicScale,
    add_domain,
    dynamic_nodes,
    reread,
    rounding_constants,
    rounding_nodes,
)
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.graph import Trait, lookup
from onnxlint_q.graph.names import ROOT, walk_graphs

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FanOut:
    """A model that computes the float result and all variants of it.

    Attributes:
        executable: takes one sample; outputs hold `1 + len(order)` blocks of it along axis 0.
        order: for each output, the experiments in the order of their blocks, which follow the float block. One that
            an output does not depend on is not among them; UNCHANGED is among the others, to see that it changes
            nothing.
    """

    executable: Executable
    order: Mapping[str, tuple[Experiment, ...]]


def fan_out(bench: Workbench, experiments: Iterable[Experiment], shapes: Shapes | None = None) -> FanOut:
    """Put experiments on single tensors into one graph.

    Args:
        bench: the network; takes a batch of one.
        experiments: what to put in, each about a place of the main graph, see `Workbench.starts_at`.
        shapes: of the inputs, for a graph that takes no others; without, open axes stay open.

    Raises:
        MixesBatchError: an operator behind one of the tensors does not keep batch elements apart, or a tensor is not
            in the main graph.
    """
    return _Builder(bench, experiments, shapes or {}).build()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some variants of a tensor, one after the other along the batch axis; each is the number of an experiment."""

    name: str
    variants: tuple[int, ...]


class _Builder:
    def __init__(self, bench: Workbench, experiments: Iterable[Experiment], shapes: Shapes) -> None:
        model, executable = bench.measured.model, bench.float_model
        self.bench = bench
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(executable.proto)
        self.tensors = Tensors(model, self.proto, shapes)
        self.base = executable
        self.numbers: dict[Experiment, int] = {}
        # The variants with another weight, by the name of the weight, and those that are rounded, by tensor.
        self.reweighted: dict[str, list[int]] = {}
        self.rounded: dict[str, list[int]] = {}
        # What only some readers get rounded, and the names of what they read then.
        self.readings: dict[str, dict[int, DynamicScale]] = {}
        self.read: dict[str, str] = {}
        wanted = [experiment.essence for experiment in experiments]
        # UNCHANGED travels the whole way, from where the first variant starts.
        places = [place for place in map(bench.starts_at, wanted) if place is not None]
        self.first = bench.computed[min(places)][0]
        self._number(UNCHANGED)
        for experiment in wanted:
            reading = bench.reading_of(experiment)
            if reading is not None:
                self.readings.setdefault(reading.tensor, {})[self._number(experiment)] = reading
                continue
            for key in experiment.weights:
                # What an experiment on a whole layer rounds is what the one on its weight alone computes.
                self._reweight(key, _unrounded(experiment))
            for tensor in experiment.activations:
                self.rounded.setdefault(tensor, []).append(self._number(experiment))
        self.experiments = list(self.numbers)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.weights: dict[str, Array] = {}
        # The variants of a tensor; one that is not named here has none. The tensor itself is the float one.
        self.pieces: dict[str, list[_Piece]] = {}
        self.count = 0
        self.indices: dict[tuple[int, ...], str] = {}
        # Tensors by what they were put together from: a tensor and its variants, or pieces.
        self.aligned: dict[tuple[str, tuple[int, ...]], str] = {}
        self.concatenated: dict[tuple[str, ...], str] = {}
        # An activation that nothing but a layer feeds stays with it, because ONNX Runtime computes the two in one.
        self.activated = _activated(self.proto.graph) - self.rounded.keys()
        self.known = {node.outputs[0]: node for node in model.nodes if node.graph == ROOT and node.outputs}

    def _number(self, experiment: Experiment) -> int:
        return self.numbers.setdefault(experiment, len(self.numbers))

    def _reweight(self, layer: str, experiment: Experiment) -> None:
        own = self.reweighted.setdefault(self.base.layer_weights[layer][0], [])
        if experiment not in self.numbers:
            own.append(self._number(experiment))

    def build(self) -> FanOut:
        source = self.proto.graph
        add_domain(self.proto)
        for value in source.input:
            self._start(value.name)
            self._put_together(value.name)
        for node in source.node:
            self._visit(node)
        joined = {variant for pieces in self.pieces.values() for piece in pieces for variant in piece.variants}
        if len(joined) != len(self.experiments):
            raise MixesBatchError("a tensor is not in the main graph")
        for graph in (graph for path, graph in walk_graphs(source) if path != ROOT):
            if any(name in self.pieces for node in graph.node for name in node.input):
                raise MixesBatchError("a subgraph reads what is quantised")
        order = {value.name: self._join_output(value.name) for value in source.output}
        del source.node[:]
        source.node.extend(self.nodes)
        source.initializer.extend([*self.initializers, *self.tensors.added])
        for value in source.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        del source.value_info[:]
        executable = replace(self.base, proto=self.proto, weights={**self.base.weights, **self.weights})
        return FanOut(executable, order)

    def _visit(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)
        if not node.output:
            return
        self._carry(node)
        weight = next((name for name in node.input if name in self.reweighted), None)
        twins = [*(self._twins(node, weight) if weight is not None else ()), *self._readers(node)]
        # An identity that a fold leaves is no end.
        ends = lookup(node.op_type, node.domain).has(Trait.FUSED)
        for result in filter(None, node.output):
            self._start(result, twins if result == node.output[0] else ())
            if ends or result not in self.activated:
                self._put_together(result)

    def _start(self, tensor: str, twins: Sequence[_Piece] = ()) -> None:
        """Let the variants join that part from the float network at `tensor`."""
        new = list(twins)
        if tensor == self.first:
            new.insert(0, _Piece(self._new(), (self.numbers[UNCHANGED],)))
            self.nodes.append(helper.make_node("Identity", [tensor], [new[0].name]))
        if tensor in self.rounded:
            new += self._rounded(tensor, twins)
        if new:
            if not self.tensors.has_batch(tensor):
                raise MixesBatchError(f"{tensor!r} does not have the batch in front")
            self.pieces.setdefault(tensor, []).extend(new)

    def _carry(self, node: onnx.NodeProto) -> None:
        """Compute `node` for the variants that its inputs carry, piece by piece."""
        front = set(self.tensors.front)
        made: dict[str, list[_Piece]] = {}
        for variants in self._split(node):
            # Each piece is told anew which tensors have the batch as an axis of its own.
            self.tensors.front = set(front)
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            keep_apart(self.tensors, copy, self.known.get(node.output[0]), len(variants))
            behind = list(closed(self.tensors, copy, len(variants)))
            for position, name in enumerate(copy.input):
                if name and not self._is_constant(name) and self._has_batch(name):
                    copy.input[position] = self._of(name, variants)
            names = {name: self._new() for one in (copy, *behind) for name in one.output if name}
            for one in (copy, *behind):
                one.name = ""
                one.output[:] = [names.get(name, name) for name in one.output]
            for reshape in behind:
                reshape.input[0] = names[reshape.input[0]]
            self.nodes += [copy, *behind]
            for name in filter(None, node.output):
                made.setdefault(name, []).append(_Piece(names[name], variants))
        self.pieces.update(made)

    def _split(self, node: onnx.NodeProto) -> list[tuple[int, ...]]:
        """The variants that the inputs of `node` carry, in the pieces that they come in."""
        found: list[tuple[int, ...]] = []
        seen: set[int] = set()
        for name in dict.fromkeys(node.input):
            for piece in self.pieces.get(name, ()):
                fresh = tuple(variant for variant in piece.variants if variant not in seen)
                if fresh:
                    found.append(fresh)
                    seen.update(fresh)
        return found

    def _of(self, name: str, variants: tuple[int, ...]) -> str:
        """A tensor that holds these variants of `name`; those that it does not carry as its float self."""
        pieces = self.pieces.get(name, [])
        whole = [piece for piece in pieces if set(piece.variants) <= set(variants)]
        if sum((piece.variants for piece in whole), ()) == variants:
            return self._concatenated(whole)
        key = (name, variants)
        if key not in self.aligned:
            if name in self.tensors.front:
                raise MixesBatchError(f"branches meet behind a reshape of the batch at {name!r}")
            carried = [variant for piece in pieces for variant in piece.variants]
            places = {variant: block for block, variant in enumerate(carried, start=1)}
            some = bool(places.keys() & set(variants))
            source = self._concatenated([_Piece(name, ()), *pieces]) if some else name
            index = tuple(places.get(variant, 0) for variant in variants)
            if index not in self.indices:
                self.indices[index] = f"{PREFIX}blocks{len(self.indices)}"
                self._add_initializer(self.indices[index], np.asarray(index, np.int64))
            self.aligned[key] = self._new()
            gather = helper.make_node("Gather", [source, self.indices[index]], [self.aligned[key]], axis=0)
            self.nodes.append(gather)
        return self.aligned[key]

    def _concatenated(self, pieces: Sequence[_Piece]) -> str:
        if len(pieces) == 1:
            return pieces[0].name
        names = tuple(piece.name for piece in pieces)
        if names not in self.concatenated:
            self.concatenated[names] = self._new()
            self.nodes.append(helper.make_node("Concat", names, [self.concatenated[names]], axis=0))
        return self.concatenated[names]

    def _put_together(self, name: str) -> None:
        """Make one piece of the last two while the last is as large as the one before.

        As in a binary counter, every variant is copied as often as its piece has doubled.
        """
        pieces = self.pieces.get(name, [])
        if not pieces:
            return
        kept, last = pieces[:-1], pieces[-1:]
        while kept and sum(len(piece.variants) for piece in last) >= len(kept[-1].variants):
            last.insert(0, kept.pop())
        self.pieces[name] = [*kept, _Piece(self._concatenated(last), sum((piece.variants for piece in last), ()))]

    def _twins(self, node: onnx.NodeProto, old: str) -> list[_Piece]:
        """Compute `node` on its float input with each weight that stands for `old`."""
        made: list[_Piece] = []
        for number in self.reweighted[old]:
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name, twin.output[0] = "", self._new()
            experiment = self.experiments[number]
            layer = next(iter(experiment.weights))
            (values,) = self.bench.weights(experiment.scheme, layer).values()
            weight = self._add_weight(values)
            twin.input[:] = [weight if name == old else name for name in node.input]
            self.nodes.append(twin)
            made.append(_Piece(twin.output[0], (number,)))
        return made

    def _readers(self, node: onnx.NodeProto) -> Iterator[_Piece]:
        """Compute `node` on its input rounded for it, and with the weight that goes with that, if any."""
        for tensor in dict.fromkeys(name for name in node.input if name in self.readings):
            for number, entry in self.readings[tensor].items():
                if node.output[0] not in entry.readers:
                    continue
                if any(number in piece.variants for name in node.input for piece in self.pieces.get(name, ())):
                    raise MixesBatchError(f"{node.output[0]!r} reads {tensor!r} by two ways")
                if tensor not in self.read:
                    self.read[tensor] = self._new()
                    self.nodes += dynamic_nodes(len(self.nodes), entry, tensor, self.read[tensor])
                twin = onnx.NodeProto()
                twin.CopyFrom(node)
                twin.name, twin.output[0] = "", self._new()
                reread(twin, tensor, self.read[tensor])
                for layer in self.experiments[number].weights:
                    for old, values in self.bench.weights(self.experiments[number].scheme, layer).items():
                        if old in node.input:
                            reread(twin, old, self._add_weight(values))
                self.nodes.append(twin)
                yield _Piece(twin.output[0], (number,))

    def _add_weight(self, array: Array) -> str:
        name = f"{PREFIX}v{len(self.weights)}"
        self.initializers.append(declare_external(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
        self.weights[name] = array
        return name

    def _add_initializer(self, name: str, value: Array) -> None:
        self.initializers.append(onnx.numpy_helper.from_array(value, name))

    def _rounded(self, tensor: str, twins: Sequence[_Piece]) -> list[_Piece]:
        """The variants in which `tensor` is rounded, those with the same scale in one piece."""
        if tensor in self.tensors.front:
            raise MixesBatchError(f"{tensor!r} follows a reshape of the batch")
        by_scale: dict[ActivationScale, list[int]] = {}
        for key in self.rounded[tensor]:
            (scale,) = self.bench.activations_of(self.experiments[key])
            assert isinstance(scale, ActivationScale)
            by_scale.setdefault(scale, []).append(key)
        made: list[_Piece] = []
        for scale, keys in by_scale.items():
            sources = [_Piece(self._before_rounding(tensor, key, twins), (key,)) for key in keys]
            exact, result = self._concatenated(sources), self._new()
            number = len(self.nodes)
            for name, value in rounding_constants(number, scale).items():
                self._add_initializer(name, value)
            scratch = onnx.GraphProto()
            self.nodes += rounding_nodes(scratch, number, scale, exact, result)
            self.initializers += scratch.initializer
            made.append(_Piece(result, tuple(keys)))
        return made

    def _before_rounding(self, tensor: str, key: int, twins: Sequence[_Piece]) -> str:
        """What a variant rounds: the float tensor, or the one with its weight."""
        experiment = self.experiments[key]
        if not experiment.weights:
            return tensor
        own = self.numbers[_unrounded(experiment)]
        for twin in twins:
            if twin.variants == (own,):
                return twin.name
        return self._of(tensor, (own,))

    def _join_output(self, name: str) -> tuple[Experiment, ...]:
        """Give out the float tensor and its variants under the name of the output; say which they are."""
        pieces = self.pieces.get(name)
        if not pieces:
            return ()
        if name in self.tensors.front:
            raise MixesBatchError(f"the output {name!r} follows a reshape of the batch")
        exact = self._new()
        for node in self.nodes:
            for field in (node.input, node.output):
                field[:] = [exact if one == name else one for one in field]
        self.nodes.append(helper.make_node("Concat", [exact, *(piece.name for piece in pieces)], [name], axis=0))
        return tuple(self.experiments[variant] for piece in pieces for variant in piece.variants)

    def _new(self) -> str:
        """A name for a tensor."""
        self.count += 1
        return f"{PREFIX}fan{self.count}"

    def _is_constant(self, name: str) -> bool:
        return name in self.base.weights or self.tensors.is_constant(name)

    def _has_batch(self, name: str) -> bool:
        return name in self.pieces or self.tensors.has_batch(name)


def _unrounded(experiment: Experiment) -> Experiment:
    """The same weights and no activations."""
    return replace(experiment, activations=frozenset()).essence


def _activated(graph: onnx.GraphProto) -> frozenset[str]:
    """Tensors that one activation reads and nothing else, or the identity that a folded normalisation leaves."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return frozenset()
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    fixed = {tensor.name for tensor in graph.initializer}
    return frozenset(
        node.input[0]
        for node in graph.node
        if (node.op_type == "Identity" or lookup(node.op_type, node.domain).has(Trait.FUSED))
        and read[node.input[0]] == 1
        and fixed.issuperset(filter(None, node.input[1:]))
    )


def blocks(output: Array, order: Sequence[Experiment]) -> tuple[Array, dict[Experiment, Array]]:
    """An output of a FanOut as the float result and the result of each variant.

    Raises:
        MixesBatchError: it is not made of as many equal parts.
    """
    if order and (not output.ndim or len(output) % (1 + len(order))):
        raise MixesBatchError("an output has another shape in a batch")
    parts = np.split(output, 1 + len(order)) if order else [output]
    return parts[0], dict(zip(order, parts[1:], strict=True))
