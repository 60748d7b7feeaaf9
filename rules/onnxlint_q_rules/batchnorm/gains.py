"""The BatchNormalizations that rules about gains look at."""

from __future__ import annotations

from collections.abc import Iterator

from onnxlint_q import BatchNorm, Facts, LayerFacts


def folds(facts: Facts) -> Iterator[tuple[LayerFacts, BatchNorm]]:
    """Every BatchNormalization of a float model that folds, with its layer; broken weights are left out."""
    layers = facts.layers if facts.is_float else ()
    for layer in layers:
        for norm in (layer.folded.before, layer.folded.after):
            if norm is not None and not layer.weight.non_finite:
                yield layer, norm
