"""All rewrites, in the order in which they are applied."""

from __future__ import annotations

from onnxlint_q.rewrite import constant_channels
from onnxlint_q.rewrite.rewriting import Rewrite

# What is constant by its BatchNormalization shows only as long as that is not folded.
REWRITES: tuple[Rewrite, ...] = (constant_channels.REWRITE,)
