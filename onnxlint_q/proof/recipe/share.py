"""How much of a network's arithmetic is done in which number format."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.placement import scaled_tensors
from onnxlint_q.analysis.schemes import Scheme

FLOAT, WIDE = "float", "16 bits"


def shares(measured: Measured, each: Mapping[str, float], experiment: Experiment) -> Mapping[str, float]:
    """Fraction of the multiplications of all layers by the format that they are done in, the largest first.

    Args:
        measured: the network.
        each: multiplications of each layer, by its key.
        experiment: what of the network is quantised. A layer counts as of 16 bits where what it reads or makes is.
    """
    scheme, floats = experiment.scheme, measured.float_weights(experiment.scheme, experiment.excluded)
    beside = around(measured, scheme, experiment.excluded) if experiment.wide else {}
    widened = frozenset(layer for tensor in experiment.wide for layer in beside.get(tensor, ()))
    found: dict[str, float] = {}
    for layer in measured.layers:
        held = layer.folded.layer
        if layer.output in floats or not scheme.quantises(held):
            kind = FLOAT
        elif layer.output in widened:
            kind = WIDE
        else:
            kind = scheme.weights.name
        found[kind] = found.get(kind, 0.0) + each.get(layer.output, 0.0)
    total = sum(found.values()) or 1.0
    return {kind: count / total for kind, count in sorted(found.items(), key=lambda entry: -entry[1])}


def around(measured: Measured, scheme: Scheme, excluded: Collection[str] = ()) -> Mapping[str, frozenset[str]]:
    """Keys of the layers that read or make the values of each scale, by the tensor whose scale it is.

    Args:
        measured: the network.
        scheme: that it is quantised under.
        excluded: names of nodes that stay in float.
    """
    places = scaled_tensors(measured.model, measured.folded, excluded, layers_only=scheme.layers_only)
    like = {place.tensor: place.like for place in places}
    found: dict[str, set[str]] = {}
    for layer in measured.layers:
        for tensor in (layer.folded.layer.input, measured.stored_tensor(layer)):
            found.setdefault(like.get(tensor, tensor), set()).add(layer.output)
    return {tensor: frozenset(layers) for tensor, layers in found.items()}


def finer(measured: Measured, each: Mapping[str, float], experiment: Experiment) -> float:
    """Fraction of the multiplications that are done in float or in 16 bits."""
    return sum(share for kind, share in shares(measured, each, experiment).items() if kind in {FLOAT, WIDE})
