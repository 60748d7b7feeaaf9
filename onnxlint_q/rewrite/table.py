"""All rewrites, in the order in which they are applied; each is looked for in what those before it made."""

from __future__ import annotations

from onnxlint_q.rewrite import channel_factors, equalisation, fold_batch_norms, mask_values, reader_factors
from onnxlint_q.rewrite.constants import constant_channels, move_constants, observed_constants
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
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

REWRITES: tuple[Rewrite, ...] = (
    # What makes others possible: operators of today, weights that are constants, a Gemm and a weight of its own that a
    # BatchNormalization can fold into.
    opset.REWRITE,
    listed_weights.REWRITE,
    stored_weights.REWRITE,
    gemm_operands.REWRITE,
    shared_constants.REWRITE,
    # What is constant by its BatchNormalization shows only as long as that is not folded; what samples show of a layer
    # is that of the folded one. Equalisation after both: a channel that is constant has no range to share.
    constant_channels.REWRITE,
    fold_batch_norms.REWRITE,
    observed_constants.REWRITE,
    move_constants.REWRITE,
    equalisation.REWRITE,
    # Masks before factors: without them nothing but the mask is left of what an attention computes in 8 bits.
    mask_values.REWRITE,
    channel_factors.REWRITE,
    reader_factors.REWRITE,
    # What others leave behind or bring with them.
    unread_initializers.REWRITE,
    node_names.REWRITE,
    # All else is held against the outputs that were given.
    joined_outputs.REWRITE,
)

DEFAULT_REWRITES: tuple[Rewrite, ...] = tuple(rewrite for rewrite in REWRITES if rewrite.safety is not Safety.UNSAFE)
"""Those that leave the interface of the model as it is."""
