"""What rounding the weights of each layer alone costs at the output."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import (
    NumberFormat,
    Sharing,
    decibel,
)
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts, weight_errors
from onnxlint_q.forecast.ends import by_end, pooled
from onnxlint_q.forecast.network import NoiseModel
from onnxlint_q.forecast.noise import saturated, weight_noise
from onnxlint_q.forecast.transfer import ByImage
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Layer

AtEnds = npt.NDArray[np.float64]
"""Noise over signal at each end."""
Noise = Mapping[str, AtEnds]
"""The same for each weight of a layer, by the name of the weight; an only one has none."""
Matrix = npt.NDArray[np.float32]
Rounding = tuple[NumberFormat, Sharing]
# Elements of the errors of a weight that are held at a time: 64 MB.
_ERRORS = 1 << 24


def weights_noise(
    network: NoiseModel, layers: Sequence[LayerFacts], schemes: Sequence[Scheme]
) -> Mapping[str, Mapping[str, Noise]]:
    """Noise over signal at the ends from rounding the weights of each layer alone.

    By layer key and scheme; empty for a layer of which nothing can be said. A weight that several layers share is
    rounded once, and so is one that several schemes round alike.
    """
    sharing: dict[tuple[tuple[Rounding | None, ...], Hashable], list[LayerFacts]] = {}
    for facts in layers:
        if _is_told(network, facts):
            kinds = tuple(_rounding(scheme, facts.folded.layer) for scheme in schemes)
            weights = tuple(part.made_of(network.model) for part in facts.folded.operands)
            sharing.setdefault((kinds, weights), []).append(facts)
    found: dict[str, Mapping[str, Noise]] = {facts.output: {} for facts in layers}
    for (kinds, _), alike in sharing.items():
        names = [scheme.name for scheme in schemes]
        found |= _shared_noise(network, alike, dict(zip(names, kinds, strict=True)))
    return found


def _is_told(network: NoiseModel, facts: LayerFacts) -> bool:
    """Whether samples reach the layer, it reaches an output, and its weights are numbers."""
    results = network.costs.keys() & _results(network, facts.folded)
    reached = _source(facts.folded) in network.propagation.samples and results
    return bool(reached) and not any(part.weight.non_finite for part in facts.operands)


def _shared_noise(
    network: NoiseModel, layers: Sequence[LayerFacts], kinds: Mapping[str, Rounding | None]
) -> Mapping[str, Mapping[str, Noise]]:
    """`weights_noise` of layers that share their weights, which each scheme rounds so."""
    first = layers[0].folded
    matrices = {part.layer.operand: part.matrix(network.model) for part in first.operands}
    if not all(matrix.size for matrix in matrices.values()):
        return {}
    nothing: Noise = dict.fromkeys(matrices, np.zeros(len(network.ends)))
    noise: dict[str, dict[Rounding | None, Noise]] = {facts.output: {None: nothing} for facts in layers}
    distinct = [kind for kind in dict.fromkeys(kinds.values()) if kind is not None]
    at_once = max(_ERRORS // max(matrix.size for matrix in matrices.values()), 1)
    for start in range(0, len(distinct), at_once):
        rounded = distinct[start : start + at_once]
        tied = first.layer.scale_sharing
        made = [weight_errors(matrix, rounded, tied) for matrix in matrices.values()]
        errors = [dict(zip(matrices, each, strict=True)) for each in zip(*made, strict=True)]
        for facts in layers:
            noise[facts.output] |= zip(rounded, _noise(network, facts.folded, errors), strict=False)
    return {
        key: {name: known[kind] for name, kind in kinds.items()} if known.keys() >= set(kinds.values()) else {}
        for key, known in noise.items()
    }


def _rounding(scheme: Scheme, layer: Layer) -> Rounding | None:
    """How a scheme rounds the weight of a layer; None where it says nothing of it."""
    own = scheme.of_layer(layer)
    return (own.weights, own.sharing) if scheme.covers(layer) else None


def _noise(network: NoiseModel, folded: FoldedLayer, errors: Sequence[Mapping[str, Matrix]]) -> list[Noise]:
    """What each error of the weights of a layer makes; nothing where that cannot be said of all of them."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found: list[Noise] = [
                {name: by_end(network.ends, power) for name, power in powers.items()}
                for powers in _powers(network, folded, errors)
            ]
    except UnmodelledError:
        return []
    # The squares of weights may overflow.
    return found if all(np.isfinite(each).all() for noise in found for each in noise.values()) else []


def _powers(
    network: NoiseModel, folded: FoldedLayer, errors: Sequence[Mapping[str, Matrix]]
) -> Sequence[Mapping[str, ByImage]]:
    """Output noise by image for each error of the weights of a layer."""
    propagation, costs = network.propagation, network.costs
    if folded.layer.is_product:
        (result,), samples = _results(network, folded), propagation.samples[_source(folded)]
        powers = weight_noise(network.model, folded, [error[""] for error in errors], samples, costs[result])
        return [{"": power} for power in powers]
    reading = propagation.readings.get(folded.layer.output)
    if reading is None:
        raise UnmodelledError("it was passed through")
    behind = [costs.get(key) for key in folded.layer.node.outputs]
    return [reading.weight_noise(error, behind) for error in errors]


def _source(folded: FoldedLayer) -> str:
    return folded.before.node.input(0) if folded.before is not None else folded.layer.input


def _results(network: NoiseModel, folded: FoldedLayer) -> tuple[str, ...]:
    """Where an error of the layer's weights arrives first."""
    if folded.layer.is_product:
        return (network.products.get(folded.output, folded.output),)
    return tuple(filter(None, folded.layer.node.outputs))


def together(noise: Noise) -> AtEnds:
    """Of all weights of a layer."""
    return np.asarray(sum(noise.values()), np.float64)


def weight_sqnr_db(network: NoiseModel, layer: LayerFacts, scheme: Scheme) -> float | None:
    """SQNR at the output, dB and bounded, if only the weight of this layer is quantised.

    None where nothing can be said, or nothing is lost.

    The layer may differ from the network's own where the difference leaves the float network what it is.
    """
    noise = weights_noise(network, (layer,), (scheme,))[layer.output].get(scheme.name)
    if noise is None or network.propagation.overflown:
        return None
    return decibel(1.0, saturated(pooled(network.ends, together(noise)), network.varying))
