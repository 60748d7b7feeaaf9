"""Whether a part of a joined tensor weighs anything to the layers that read it."""

from __future__ import annotations

import numpy as np

from onnxlint_q import Facts, Joined, LayerFacts, Product, QuantizedTensor, Range, Trait, grid, trace_forward
from onnxlint_q_rules.qdq.pairs import Pairs, Vector

_ON_THE_WAY = Trait.QUANTIZES | Trait.COPIES | Trait.RECTIFIES


def is_worth_nothing(
    facts: Facts, pairs: Pairs, pair: QuantizedTensor, joined: Joined, branch: str, ends: Range
) -> bool:
    """Whether all of a part changes less than a step of what each reader stores, in three quarters of its outputs.

    Args:
        facts: of the file.
        pairs: its pairs.
        pair: of the joined tensor.
        joined: the join.
        branch: one of its operands.
        ends: smallest and largest value of it.
    """
    reach = max(abs(end) for end in ends)
    layers = {layer.node: layer for layer in facts.layers}
    tensors = trace_forward(facts.model, pair.codes, _ON_THE_WAY).tensors
    if any(key in facts.model.output_names for key in tensors):
        return False
    readers = {node for key in tensors for node in facts.model.consumers(key) if not node.operator.has(_ON_THE_WAY)}
    heard = [_is_silent(facts, pairs, layers.get(node), joined, branch, reach) for node in readers]
    return bool(heard) and all(heard)


def _is_silent(facts: Facts, pairs: Pairs, layer: LayerFacts | None, joined: Joined, branch: str, reach: float) -> bool:
    norm = _norm_of_part(facts, layer, joined, branch) if layer is not None else None
    target = pairs.destination(layer.folded.layer.output) if layer is not None else None
    stored = grid(facts.model, target) if target is not None else None
    if norm is None or stored is None:
        return False
    return float(np.quantile(reach * norm, 0.75)) < stored.scale


def _norm_of_part(facts: Facts, layer: LayerFacts, joined: Joined, branch: str) -> Vector | None:
    """`||w_c,part||` of each output channel; None where the part cannot be found in the weight."""
    part = layer.folded.layer
    sizes = [facts.model.shape(key) for key in joined.branches]
    axis = joined.node.int("axis", 1)
    if part.inputs.product is not Product.CONVOLUTION or axis != 1 or any(size is None for size in sizes):
        return None
    lengths = [size[1] if size is not None and len(size) > 1 else None for size in sizes]
    weight = part.read_weight(facts.model)
    if None in lengths or weight.shape[1] != sum(length or 0 for length in lengths):
        return None
    at = list(joined.branches).index(branch)
    start = sum(length or 0 for length in lengths[:at])
    taken = weight[:, start : start + (lengths[at] or 0)]
    return np.asarray(np.sqrt(np.square(taken.astype(np.float64)).sum(axis=tuple(range(1, taken.ndim)))), np.float64)
