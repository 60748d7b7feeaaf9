"""What training does to ranges: weights, BatchNormalization gains, folded weights and activations at a checkpoint.

The article this follows logs the range of activations before and after each BatchNormalization every few epochs; the
paper's figure 5 has the range and the average precision of the folded weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxlint_q.analysis.folding import BatchNorm
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of

from .digits import Images
from .networks import INPUT


@dataclass(frozen=True, slots=True)
class LayerRanges:
    """One layer of one checkpoint; ranges are largest minus smallest value, None where there is no such thing.

    Attributes:
        depth: place in the network, from 1.
        layer: name of the layer.
        kind: regular, depthwise, pointwise or dense.
        weight, folded: of the weight as stored and with the BatchNormalization folded into it.
        average_precision: of the folded weight (eq. 2).
        gain_low, gain_high: smallest and largest `gamma / sqrt(var + eps)`.
        output, normalised: of the layer's own result and of what BatchNormalization makes of it, on images.
    """

    network: str
    epoch: int
    depth: int
    layer: str
    kind: str
    weight: float
    folded: float
    average_precision: float
    gain_low: float | None
    gain_high: float | None
    output: float
    normalised: float | None


def layer_ranges(path: Path, network: str, epoch: int, images: Images) -> list[LayerRanges]:
    """The ranges of every layer of the file, activations on `images`."""
    facts = facts_of(read_model(path), [INT8_PER_TENSOR])
    results = [layer.output for layer in facts.layers]
    seen = observe(facts, ArraySource("digits", {INPUT: images}), len(images), tensors=results).tensors
    rows = []
    for depth, layer in enumerate(facts.layers, 1):
        norm = layer.folded.after
        after = seen[layer.output]
        gain = None if norm is None else np.abs(norm.gain)
        rows.append(
            LayerRanges(
                network=network,
                epoch=epoch,
                depth=depth,
                layer=layer_name(layer),
                kind=kind(layer),
                weight=layer.before.range,
                folded=layer.weight.range,
                average_precision=layer.weight.average_precision,
                gain_low=None if gain is None else float(gain.min()),
                gain_high=None if gain is None else float(gain.max()),
                output=after.range if norm is None else range_before(norm, after),
                normalised=None if norm is None else after.range,
            )
        )
    return rows


def range_before(norm: BatchNorm, after: TensorObservation) -> float:
    """Range of what a BatchNormalization reads, from the extremes of each channel behind it; a channel without gain
    says nothing.
    """
    if after.channels is None:
        raise ValueError(f"the channels of {norm.node.output!r} were not told apart")
    kept = norm.gain != 0
    ends = (np.stack([after.channels.low, after.channels.high])[:, kept] - norm.shift[kept]) / norm.gain[kept]
    return float(ends.max() - ends.min()) if kept.any() else 0.0


def layer_name(layer: LayerFacts) -> str:
    """The name that the network gives the layer: its weight's, without the last part."""
    return layer.folded.layer.weight.rpartition(".")[0]


def kind(layer: LayerFacts) -> str:
    """What sort of layer it is."""
    if layer.folded.layer.op_type == "Gemm":
        return "dense"
    if layer.depthwise:
        return "depthwise"
    return "pointwise" if layer.folded.layer.weight_shape[2:] == (1, 1) else "regular"
