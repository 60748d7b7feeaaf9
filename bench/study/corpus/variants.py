"""Copies of a network that compute what it computes, or nearly, and quantise worse, as networks in the wild do.

- folded: BatchNormalization becomes part of the convolution in front of it.
- rescaled: channel c between two layers is multiplied by s_c where it is made and divided by it where it is read. With
  nothing between them but what commutes with a positive factor, the float result stays the same, while one scale for
  all channels has to span factors drawn log-uniformly from [1 / spread, spread].
- deadened: a depthwise layer's channel gets no signal any more and its BatchNormalization the statistics and the gain
  of such a channel: variance nearly zero and gamma above all others, so that its folded weight is the widest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from .store import About, Corpus

Array = npt.NDArray[np.floating[Any]]
_COMMUTE = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity"})


class Weights:
    """A copy of a model whose weights can be changed; a weight with several readers cannot.

    Args:
        model: stays as it is.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.nodes = list(graph.node)
        self._stored = {value.name: value for value in graph.initializer}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._ends = {value.name for value in graph.output}

    def reader(self, tensor: str) -> onnx.NodeProto | None:
        """The only reader of a tensor that is no output."""
        found = self._readers.get(tensor, [])
        return found[0] if len(found) == 1 and tensor not in self._ends else None

    def has(self, node: onnx.NodeProto, *places: int) -> bool:
        """Whether these inputs are weights that nothing else reads."""
        names = [node.input[place] if place < len(node.input) else "" for place in places]
        return all(name in self._stored and self.reader(name) is node for name in names)

    def of(self, node: onnx.NodeProto, place: int) -> Array:
        """A weight."""
        return np.array(numpy_helper.to_array(self._stored[node.input[place]]))

    def put(self, node: onnx.NodeProto, place: int, value: Array) -> None:
        """Change a weight."""
        stored = self._stored[node.input[place]]
        stored.CopyFrom(numpy_helper.from_array(value.astype(np.float32), stored.name))

    def add(self, name: str, value: Array) -> str:
        """A new weight; its name."""
        self.model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to change a network; `apply` gives the copy, or None where it has nothing to change."""

    name: str
    apply: Callable[[onnx.ModelProto, np.random.Generator], onnx.ModelProto | None]


def vary_all(corpus: Corpus, names: Sequence[str], variants: Sequence[str], seed: int) -> None:
    """Add copies of networks; those that are there already stay."""
    have = {about.name for about in corpus.all()}
    for about in [about for about in corpus.all() if about.name in names]:
        for variant in (VARIANTS[name] for name in variants):
            name = f"{about.name}_{variant.name}"
            made = None
            if name not in have:
                made = variant.apply(onnx.load(corpus.model(about.name)), np.random.default_rng(seed))
            if made is not None:
                told = About(name, about.family, f"{about.source}, {variant.name}", about.kind, seed, about.name)
                corpus.add(told, made, corpus.arrays(about.name))


def folded(model: onnx.ModelProto, random: np.random.Generator) -> onnx.ModelProto | None:
    """Every BatchNormalization behind a convolution folded into it."""
    weights, done = Weights(model), 0
    for node in weights.nodes:
        norm = weights.reader(node.output[0])
        if node.op_type != "Conv" or norm is None or norm.op_type != "BatchNormalization":
            continue
        if not (weights.has(node, 1) and weights.has(norm, 1, 2, 3, 4)) or (len(node.input) > 2 and node.input[2]):
            continue
        gamma, beta, mean, variance = (weights.of(norm, place) for place in (1, 2, 3, 4))
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        gain = gamma / np.sqrt(variance + epsilon)
        kernel = weights.of(node, 1)
        weights.put(node, 1, kernel * gain.reshape(-1, *[1] * (kernel.ndim - 1)))
        bias = weights.add(f"{node.output[0]}.folded_bias", beta - mean * gain)
        del node.input[2:]
        node.input.append(bias)
        node.output[0] = norm.output[0]
        weights.model.graph.node.remove(norm)
        done += 1
    return weights.model if done else None


def rescaled(model: onnx.ModelProto, random: np.random.Generator, *, spread: float) -> onnx.ModelProto | None:
    """Half of all pairs of layers rescaled, each channel by its own factor."""
    weights, done = Weights(model), 0
    for first, second in _pairs(weights):
        if random.random() < 0.5:
            continue
        factors = np.exp(random.uniform(-1, 1, len(weights.of(first, 1))) * math.log(spread)).astype(np.float32)
        made = (1, 2) if first.op_type == "BatchNormalization" or len(first.input) > 2 else (1,)
        for place in made:
            value = weights.of(first, place)
            weights.put(first, place, value * factors.reshape(-1, *[1] * (value.ndim - 1)))
        kernel = weights.of(second, 1)
        along = (-1, *[1] * (kernel.ndim - 1)) if _group(second) > 1 else (1, -1, *[1] * (kernel.ndim - 2))
        weights.put(second, 1, kernel / factors.reshape(along))
        done += 1
    return weights.model if done else None


def deadened(model: onnx.ModelProto, random: np.random.Generator) -> onnx.ModelProto | None:
    """One channel of every other depthwise layer dead, with the widest folded weight of its layer."""
    weights, done = Weights(model), 0
    for first, second in _pairs(weights):
        norm = weights.reader(second.output[0])
        if _group(second) == 1 or first.op_type != "BatchNormalization" or norm is None or random.random() < 0.5:
            continue
        if norm.op_type != "BatchNormalization" or not weights.has(norm, 1, 2, 3, 4):
            continue
        gamma, beta = weights.of(first, 1), weights.of(first, 2)
        channel = int(random.integers(len(gamma)))
        gamma[channel], beta[channel] = 1e-3, -1.0
        weights.put(first, 1, gamma)
        weights.put(first, 2, beta)
        for place, value in ((3, 0.0), (4, 1e-20)):
            changed = weights.of(norm, place)
            changed[channel] = value
            weights.put(norm, place, changed)
        gain = weights.of(norm, 1)
        gain[channel] = np.abs(gain).max() * random.uniform(1, 8)
        weights.put(norm, 1, gain)
        done += 1
    return weights.model if done else None


def _pairs(weights: Weights) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Layers, or the BatchNormalization behind one, and the convolution that alone reads their channels."""
    for node in weights.nodes:
        if node.op_type == "BatchNormalization":
            fits = weights.has(node, 1, 2)
        else:
            fits = node.op_type == "Conv" and weights.has(node, *range(1, len(node.input)))
        reader = weights.reader(node.output[0]) if fits else None
        while reader is not None and reader.op_type in _COMMUTE:
            reader = weights.reader(reader.output[0])
        if reader is None or reader.op_type != "Conv" or not weights.has(reader, 1):
            continue
        if _group(reader) in {1, len(weights.of(node, 1))}:
            yield node, reader


def _group(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("folded", folded),
        Variant("deadened", deadened),
        *(Variant(f"rescaled{spread}", partial(rescaled, spread=spread)) for spread in (2, 4, 8, 16)),
    )
}
