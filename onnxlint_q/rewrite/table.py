"""All rewrites, in the order in which they are applied."""

from __future__ import annotations

from onnxlint_q.rewrite import constant_channels
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

# What is constant by its BatchNormalization shows only as long as that is not folded.
REWRITES: tuple[Rewrite, ...] = (constant_channels.REWRITE,)

DEFAULT_REWRITES: tuple[Rewrite, ...] = tuple(rewrite for rewrite in REWRITES if rewrite.safety is not Safety.UNSAFE)
"""Those that leave the interface of the model as it is."""
