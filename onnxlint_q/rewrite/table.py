"""All rewrites, in the order in which they are applied; each is looked for in what those before it made."""

from __future__ import annotations

from onnxlint_q.rewrite import channel_factors, mask_values
from onnxlint_q.rewrite.hygiene import (
    gemm_operands,
    joined_outputs,
    listed_weights,
    node_names,
    opset,
    shared_constants,
    stored_weights,
    unread_initializers,
)
from onnxlint_q.rewrite.rewriting import Rewrite

REWRITES: tuple[Rewrite, ...] = (
    # What makes others possible: operators of today, weights that are constants, a Gemm that a BatchNormalization can
    # fold into.
    opset.REWRITE,
    listed_weights.REWRITE,
    stored_weights.REWRITE,
    gemm_operands.REWRITE,
    # What becomes of BatchNormalizations stands here: constants of the file before they fold, for then their variance
    # is gone; constants of the data behind it, equalisation after both, for a dead channel has no range to share.
    #
    # Masks before factors: without them nothing but the mask is left of what an attention computes in 8 bits.
    mask_values.REWRITE,
    channel_factors.REWRITE,
    joined_outputs.REWRITE,
    # What is shared still, or read no longer; names last, for nodes that are new as well.
    shared_constants.REWRITE,
    unread_initializers.REWRITE,
    node_names.REWRITE,
)
