"""BatchNormalization folded into the layer beside it.

Behind a layer, `gain = gamma / sqrt(var + eps)` multiplies its output channels; in front of one, its input channels:

    w' = gain w,  b' = beta + gain (b - mean)            (Yun & Wong, arXiv 2104.11849, eq. 1)
    w' = w gain,  b' = b + sum w (beta - mean gain)

Which ones fold, and what is in the way of the others, `analysis.folding` says. The layer gets a weight and a bias of
its own, and makes what the normalisation made. A MatMul has no place for a bias and becomes a Gemm, with the Add that
was its bias. An initializer that is an input of the model as well counts as the constant that it is everywhere here;
the input stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.folding import fold_batch_norms as fold
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Model, find_layers
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

# Where every product that anything folds into keeps its bias.
_BIAS = 2


@dataclass(frozen=True, slots=True)
class FoldableNorms(Candidate):
    """A layer that the normalisations beside it become part of.

    Attributes:
        op_type: of the layer.
        norms: how many there are: one behind it, one in front of it, or both.
    """

    op_type: str
    norms: int

    @property
    def change(self) -> str:
        """In words."""
        what = "2 BatchNormalizations become" if self.norms > 1 else "the BatchNormalization becomes"
        return f"{what} part of the {self.op_type}"


def find(measured: Measured, _: Observations | None = None) -> Iterator[FoldableNorms | Refusal]:
    """Every layer that a normalisation folds into; every normalisation that does not fold is refused."""
    for folded in measured.folded:
        if not folded.is_folded:
            continue
        if all(np.isfinite(values).all() for values in _folded(measured.model, folded)):
            norms = sum(norm is not None for norm in (folded.after, folded.before))
            yield FoldableNorms(folded.output, folded.layer.op_type, norms)
        else:
            yield Refusal(folded.output, "the weight or bias with the BatchNormalization in it would not be finite")
    for blocked in measured.blocked:
        yield Refusal(blocked.node.output, blocked.reason.value)


def apply(model: Model, wanted: Sequence[FoldableNorms]) -> Model:
    """A copy of the model with these folded."""
    layers = {folded.output: folded for folded in fold(model, list(find_layers(model))).layers}
    edit = Edit(model)
    for one in wanted:
        folded = layers[one.tensor]
        layer = folded.layer
        weight, bias = _folded(model, folded)
        edit.replace_constant(layer.output, layer.weight_slot, weight, "folded")
        edit.replace_constant(layer.output, _BIAS, bias, "folded")
        node = edit.node(layer.output)
        node.op_type = "Gemm" if node.op_type == "MatMul" else node.op_type
        if folded.before is not None:
            node.input[layer.inputs.input] = edit.node(folded.before.node.output).input[0]
            edit.remove(folded.before.node.output)
        norm = folded.after.node if folded.after is not None else None
        results = [layer.output, *(behind.output for behind in (folded.bias_add, norm) if behind is not None)]
        for result, following in itertools.pairwise(results):
            edit.take_over(following, result)
    return edit.done()


def _folded(model: Model, folded: FoldedLayer) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Weight and bias in the element type of the stored weight."""
    weight, bias = folded.weight(model), folded.bias(model)
    assert bias is not None, "a layer folds only with a bias that is known"
    stored = model.constants[folded.layer.weight].dtype
    with np.errstate(over="ignore"):  # `find` looks at what is infinite
        return weight.astype(stored), bias.astype(stored)


REWRITE = Rewrite(
    name="fold-batch-norms",
    what="BatchNormalization folded into the layer beside it",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    moves_values=False,
)
