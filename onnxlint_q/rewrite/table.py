"""All rewrites, in the order in which they are applied."""

from __future__ import annotations

from onnxlint_q.rewrite import channel_factors, fold_batch_norms, mask_values
from onnxlint_q.rewrite.constants import constant_channels, move_constants, observed_constants
from onnxlint_q.rewrite.hygiene import (
    gemm_operands,
    joined_outputs,
    listed_weights,
    node_names,
    opset,
    shared_constants,
    unread_initializers,
)
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

# Constants get readers of their own before anything changes them. What is constant by its BatchNormalization shows only
# as long as that is not folded; what samples show of a layer is that of the folded one. Beside a mask that takes all
# codes nothing else shows. What changes outputs comes last, because all else is held against those that were given.
REWRITES: tuple[Rewrite, ...] = (
    opset.REWRITE,
    listed_weights.REWRITE,
    gemm_operands.REWRITE,
    shared_constants.REWRITE,
    constant_channels.REWRITE,
    fold_batch_norms.REWRITE,
    observed_constants.REWRITE,
    move_constants.REWRITE,
    mask_values.REWRITE,
    channel_factors.REWRITE,
    node_names.REWRITE,
    unread_initializers.REWRITE,
    joined_outputs.REWRITE,
)

DEFAULT_REWRITES: tuple[Rewrite, ...] = tuple(rewrite for rewrite in REWRITES if rewrite.safety is not Safety.UNSAFE)
"""Those that leave the interface of the model as it is."""
