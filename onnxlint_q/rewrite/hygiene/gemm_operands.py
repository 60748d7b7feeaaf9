"""Factors and bias of a Gemm: `alpha` into the weight, `beta` into the bias, the bias a vector.

    alpha A B + beta C  =  A (alpha B) + (beta C)

A quantiser stores the bias in steps of the product of both scales, and forgets one factor or the other on the way: with
`beta` every format is wrong by it, with `alpha` that of integer operators. A bias of shape `[1, N]` or a single value
has no axis of N entries along which it could have one scale a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Layer, Model, find_layers
from onnxlint_q.graph.layers import channel_vector
from onnxlint_q.graph.operators import Product
from onnxlint_q.graph.tensors import Array
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

_BIAS = 2


@dataclass(frozen=True, slots=True)
class PlainGemm(Candidate):
    """A Gemm that can be a product and a bias, and nothing else.

    Attributes:
        alpha: what its weight is multiplied by.
        beta: what its bias is multiplied by; 1 where it stays as it is.
        shape: of the bias as stored, where that becomes a vector; None where it is one.
    """

    alpha: float
    beta: float
    shape: tuple[int, ...] | None

    @property
    def change(self) -> str:
        """What moves where."""
        moved = [(self.alpha, "alpha", "weight"), (self.beta, "beta", "bias")]
        told = [f"{name} {value:g} moves into its {where}" for value, name, where in moved if value != 1]
        if self.shape is not None:
            told.append(f"its bias of shape {list(self.shape)} becomes a vector")
        return " and ".join(told)


def find(measured: Measured, _: Observations | None) -> Iterator[PlainGemm | Refusal]:
    """Every Gemm with a constant weight and with factors, or with a bias that is no vector."""
    for folded in measured.folded:
        layer = folded.layer
        if layer.inputs.product is not Product.GEMM or not layer.is_float:
            continue
        found = _looked_at(measured.model, layer)
        if found is not None:
            yield found


def _looked_at(model: Model, layer: Layer) -> PlainGemm | Refusal | None:
    alpha, beta = (layer.node.float(name, 1.0) for name in ("alpha", "beta"))
    bias = model.constant(layer.bias) if layer.bias else None
    if layer.bias and bias is None and beta != 1:
        return Refusal(layer.output, "its bias is no constant that beta could move into")
    shape = bias.shape if bias is not None and bias.shape != (layer.channels,) else None
    if shape is not None and channel_vector(model, layer.bias, layer.channels) is None:
        return Refusal(layer.output, f"its bias of shape {list(shape)} has other values in each row")
    one = PlainGemm(layer.output, alpha, beta if bias is not None else 1.0, shape)
    if not one.change:
        return None
    if not _is_exact(model.constants[layer.weight], alpha):
        return Refusal(layer.output, f"its weight times alpha {alpha:g} has no place in its type")
    return one


def _is_exact(weight: Array, factor: float) -> bool:
    """Whether the product keeps all digits that float32 keeps; types of fewer digits round what is not a power of 2."""
    with np.errstate(over="ignore"):
        made = (weight.astype(np.float64) * factor).astype(weight.dtype)
    if not np.isfinite(made).all() and np.isfinite(weight).all():
        return False
    return weight.dtype.itemsize >= np.dtype(np.float32).itemsize or bool(
        (made.astype(np.float64) == weight.astype(np.float64) * factor).all()
    )


def apply(model: Model, wanted: Sequence[PlainGemm]) -> Model:
    """A copy of the model in which these have neither factor, and a vector for a bias."""
    edit = Edit(model)
    layers = {layer.output: layer for layer in find_layers(model)}
    for one in wanted:
        layer, node = layers[one.tensor], edit.node(one.tensor)
        moved = {name for name, value in (("alpha", one.alpha), ("beta", one.beta)) if value != 1}
        kept = [attribute for attribute in node.attribute if attribute.name not in moved]
        del node.attribute[:]
        node.attribute.extend(kept)
        if "alpha" in moved:
            weight = model.constants[layer.weight].astype(np.float64) * one.alpha
            edit.replace_constant(one.tensor, layer.inputs.weight, weight, "times_alpha")
        if "beta" in moved or one.shape is not None:
            bias = channel_vector(model, layer.bias, layer.channels)
            assert bias is not None
            # A Gemm with beta 0 does not look at its bias.
            made = bias * one.beta if one.beta else np.zeros(layer.channels)
            edit.replace_constant(one.tensor, _BIAS, made, "vector")
    return edit.done()


REWRITE = Rewrite(
    name="gemm-operands",
    what="Gemm factors moved into weight and bias",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    # One factor for all of a weight or bias is one of its scale.
    moves_values=False,
)
