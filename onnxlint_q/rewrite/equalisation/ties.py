"""Which channels of which tensors have to have one factor, and which of them may have any."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Layer, Model, Node, Trait, find_layers
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product
from onnxlint_q.graph.settled import Settled
from onnxlint_q.graph.tensors import MOST_AXES
from onnxlint_q.rewrite.equalisation.passing import passed
from onnxlint_q.rewrite.equalisation.site import KeptError, Numbers, Passed, Site

# Numbers of all tensors together: 128 MB.
_ROOM = 1 << 24
FIXED = -1
"""The number of channels whose factor has to stay 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A layer between channels with factors.

    Attributes:
        reads: number of each input channel.
        writes: number of each output channel.
    """

    layer: Layer
    reads: Numbers
    writes: Numbers

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return math.prod(self.layer.weight_shape)


@dataclass(frozen=True, slots=True, eq=False)
class Ties:
    """The channels of a network.

    Attributes:
        count: how many factors may be chosen; they have the numbers from 0 on.
        tensors: by key, the numbers of its channels: an array of its rank, of length 1 along an axis on which nothing
            is told apart; those of which every number is `FIXED` are left out.
        joints: the layers, in data order.
        kept: by key of a layer of which every channel has to stay as it is, why.
    """

    count: int
    tensors: Mapping[str, Numbers]
    joints: tuple[Joint, ...]
    kept: Mapping[str, str]

    @property
    def sets(self) -> npt.NDArray[np.int64]:
        """The set of each number: numbers that share a tensor are in one, as what changes there changes for both."""
        held = [numbers[numbers != FIXED] for numbers in self.tensors.values()]
        return components(self.count, [(numbers[:-1], numbers[1:]) for numbers in held])


def components(count: int, pairs: Iterable[tuple[Numbers, Numbers]]) -> npt.NDArray[np.int64]:
    """The smallest number that each is linked with."""
    linked = [(np.ravel(a), np.ravel(b)) for a, b in pairs]
    root = np.arange(count)
    if not linked:
        return root
    one, other = (np.concatenate(parts) for parts in zip(*linked, strict=True))
    while True:
        least = np.minimum(root[one], root[other])
        lower = root.copy()
        np.minimum.at(lower, root[one], least)
        np.minimum.at(lower, root[other], least)
        lower = lower[lower]
        if (lower == root).all():
            return root
        root = lower


def find_ties(model: Model) -> Ties:
    """The channels of a float network; those of subgraphs stay as they are."""
    walk = _Walk(model)
    for node in model.nodes:
        walk.visit(node)
    walk.keep(model.output_names, "it is an output of the model")
    return walk.ties()


@dataclass(eq=False)
class _Walk:
    model: Model
    known: dict[str, Numbers] = field(default_factory=dict)
    count: int = 0
    alike: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    kept: list[tuple[Numbers, str]] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    room: int = _ROOM

    def __post_init__(self) -> None:
        self.layers = {layer.node: layer for layer in find_layers(self.model)}
        self.settled = Settled(self.model, self.model.shape)
        for value in self.model.inputs:
            self._fix(value.name, "it meets an input of the model")

    def _new(self, count: int) -> Numbers:
        self.count += count
        return np.arange(self.count - count, self.count)

    def _fix(self, key: str, why: str) -> None:
        if not self._is_array(key):
            return
        shape = self.model.shape(key)
        numbers = self._new(1).reshape((1,) * len(shape or ()))
        self.known[key] = numbers
        self.kept.append((numbers, why))

    def _is_array(self, key: str) -> bool:
        """Whether an array can have the rank of this tensor; the format sets no limit to it."""
        return len(self.model.shape(key) or ()) <= MOST_AXES

    def keep(self, keys: Iterable[str], why: str) -> None:
        """Let the factors of these tensors be 1."""
        self.kept += [(self.known[key], why) for key in keys if key in self.known]

    def visit(self, node: Node) -> None:
        """Number what a node gives, and tie what it reads."""
        if self.settled.add(node) or (node.operator.has(Trait.MEASURES) and node.is_standard):
            made = Passed({})
        else:
            try:
                made = self._passed(node)
            except KeptError as reason:
                why = f"{node.op_type} {node.label!r} {reason}"
                self.keep((*node.inputs, *node.captured), why)
                made = Passed({})
                if node in self.layers:
                    self.refused[node.output] = why
        self.alike += made.alike
        self.keep(made.kept, f"{node.op_type} {node.label!r} does not hand a factor on")
        for key in filter(None, node.outputs):
            if key in made.results:
                self.known[key] = made.results[key]
            elif not self.model.is_constant(key):
                self._fix(key, f"it meets a result of {node.op_type} {node.label!r}, which has no factor")

    def _passed(self, node: Node) -> Passed:
        if not any(key in self.known for key in (*node.inputs, *node.captured)):
            return Passed({})
        if node.graph != ROOT or node.subgraphs or node.captured:
            raise KeptError("reads it in a subgraph" if node.graph != ROOT else "has a subgraph")
        if not all(self._is_array(key) for key in node.outputs):
            raise KeptError(f"has a result of more than {MOST_AXES} axes")
        layer = self.layers.get(node)
        if layer is not None:
            made = self._product(layer)
        else:
            made = passed(Site(self.model, node, self.known, self.settled.values, self._new))
        self.room -= sum(pair[0].size for pair in made.alike) + sum(numbers.size for numbers in made.results.values())
        if self.room < 0:
            raise KeptError("has more channels than there is room for")
        for key, numbers in made.results.items():
            known = self.model.types.get(key)
            if known is None or known.elem_type not in FLOATS:
                raise KeptError("makes other numbers of it")
            if known.shape is None or len(known.shape) != numbers.ndim:
                raise KeptError("has a result of unknown rank")
        return made

    def _product(self, layer: Layer) -> Passed:
        if (why := self._unfit(layer)) is not None:
            raise KeptError(why)
        rank = len(self.model.shape(layer.output) or ())
        axis = 1 if layer.inputs.convolves else rank - 1
        reads = self._read(layer, axis)
        writes = self._new(layer.channels)
        shape = [1] * rank
        shape[axis] = layer.channels
        result = writes.reshape(shape)
        self.joints.append(Joint(layer, reads, writes))
        bias = layer.bias
        if bias and (why := self._unfit_bias(layer)) is not None:
            self.kept.append((result, f"{layer.op_type} {layer.node.label!r} {why}"))
        return Passed({layer.output: result}, kept=(bias,) if bias in self.known else ())

    def _unfit(self, layer: Layer) -> str | None:
        """Why the weight of a layer takes up no factors."""
        model = self.model
        if not layer.is_product or not layer.is_float or not layer.node.is_standard:
            return "has weights that take up no factor"
        plain = layer.inputs.convolves or len(layer.weight_shape) == 2
        if not plain or layer.weight_left or layer.node.int("transA", 0):
            return "does not read its channels as rows of a weight"
        rank = len(model.shape(layer.output) or ())
        if rank < 2 or (layer.inputs.convolves and rank != len(layer.weight_shape)):
            return "has a result of unknown rank"
        if model.constants.origin(layer.weight) in model.replaceable:
            return "has a weight that callers may replace"
        if not np.isfinite(layer.read_weight(model)).all():
            return "has a weight that is not finite"
        return None

    def _unfit_bias(self, layer: Layer) -> str | None:
        value = self.model.constant(layer.bias)
        if value is None:
            return "has a bias that is computed"
        if self.model.constants.origin(layer.bias) in self.model.replaceable:
            return "has a bias that callers may replace"
        if layer.read_bias(self.model) is None or not np.isfinite(value).all():
            return "has a bias that is not one finite value a channel"
        return None

    def _read(self, layer: Layer, axis: int) -> Numbers:
        """One number for each input channel."""
        if layer.input not in self.known:
            raise KeptError("reads a constant")
        numbers = self.known[layer.input]
        rank = len(self.model.shape(layer.input) or ())
        axis = axis if layer.inputs.convolves else rank - 1
        count = input_channels(layer)
        if numbers.ndim != max(rank, 1) or numbers.size != numbers.shape[axis] or numbers.size not in {1, count}:
            raise KeptError("reads channels as another axis than they are made on")
        return np.broadcast_to(numbers.ravel(), count)

    def ties(self) -> Ties:
        """What was found."""
        root = components(self.count, self.alike)
        reasons: dict[int, str] = {}
        for numbers, why in self.kept:
            for number in np.unique(root[numbers]):
                reasons.setdefault(int(number), why)
        free = np.setdiff1d(root, np.asarray(sorted(reasons), np.int64))
        number = np.full(max(self.count, 1), FIXED)
        number[free] = np.arange(free.size)
        found = number[root] if self.count else number
        tensors = {key: found[numbers] for key, numbers in self.known.items()}
        joints = tuple(Joint(one.layer, found[one.reads], found[one.writes]) for one in self.joints)
        kept = self.refused | {
            one.layer.output: reasons[int(root[one.writes[0]])]
            for one, now in zip(self.joints, joints, strict=True)
            if (now.writes == FIXED).all()
        }
        return Ties(
            int(free.size),
            {key: numbers for key, numbers in tensors.items() if (numbers != FIXED).any()},
            joints,
            kept,
        )


def input_channels(layer: Layer) -> int:
    """How many channels a layer reads."""
    shape = layer.weight_shape
    match layer.inputs.product:
        case Product.CONVOLUTION:
            return shape[1] * layer.group
        case Product.GEMM:
            return shape[1 if layer.node.int("transB", 0) else 0]
        case _:
            return shape[0]


def by_group(layer: Layer, weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A stored weight as `[groups, outputs of a group, inputs of a group, taps]`."""
    group = layer.group
    match layer.inputs.product:
        case Product.CONVOLUTION:
            return weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
        case Product.TRANSPOSED:
            return weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1).swapaxes(1, 2)
        case Product.GEMM if layer.node.int("transB", 0):
            return weight[None, :, :, None]
        case _:
            return weight.T[None, :, :, None]


def scaled_weight(
    layer: Layer, weight: npt.NDArray[np.float64], taken: npt.NDArray[np.float64], given: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The stored weight of a layer whose inputs are divided by `taken` and whose results are to be by `given`."""
    group = layer.group
    match layer.inputs.product:
        case Product.CONVOLUTION:
            grouped = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
            scaled = grouped * taken.reshape(group, 1, -1, 1) / given.reshape(group, -1, 1, 1)
        case Product.TRANSPOSED:
            grouped = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
            scaled = grouped * taken.reshape(group, -1, 1, 1) / given.reshape(group, 1, -1, 1)
        case Product.GEMM if layer.node.int("transB", 0):
            scaled = weight * taken / given[:, None]
        case _:
            scaled = weight * taken[:, None] / given
    return scaled.reshape(weight.shape)
