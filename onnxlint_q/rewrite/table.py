"""All rewrites, in the order in which they are applied."""

from __future__ import annotations

from onnxlint_q.rewrite import constant_channels, fold_batch_norms, mask_values, move_constants, observed_constants
from onnxlint_q.rewrite.hygiene import (
    gemm_operands,
    listed_weights,
    node_names,
    shared_constants,
    unread_initializers,
)
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

# Constants get readers of their own before anything changes them. What is constant by its BatchNormalization shows only
# as long as that is not folded; what samples show of a layer is that of the folded one.
REWRITES: tuple[Rewrite, ...] = (
    listed_weights.REWRITE,
    gemm_operands.REWRITE,
    shared_constants.REWRITE,
    constant_channels.REWRITE,
    fold_batch_norms.REWRITE,
    observed_constants.REWRITE,
    move_constants.REWRITE,
    mask_values.REWRITE,
    node_names.REWRITE,
    unread_initializers.REWRITE,
)

DEFAULT_REWRITES: tuple[Rewrite, ...] = tuple(rewrite for rewrite in REWRITES if rewrite.safety is not Safety.UNSAFE)
"""Those that leave the interface of the model as it is."""
