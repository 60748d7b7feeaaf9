"""Schemes: what is quantised how, all of them by name, and which are judged by default."""

from onnxlint_q.analysis.schemes.defaults import (
    DEFAULT_SCHEMES,
    SEQUENCE_SCHEMES,
    default_schemes,
    works_on_sequences,
)
from onnxlint_q.analysis.schemes.scheme import PER_CHANNEL, PER_CHANNEL_OPSET, PER_TENSOR, Quantizer, Scheme
from onnxlint_q.analysis.schemes.table import (
    BLOCK_SIZES,
    INT4_BLOCKS,
    INT8_DYNAMIC,
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    LAYERS_ONLY,
    SCHEMES,
)

__all__ = [
    "BLOCK_SIZES",
    "DEFAULT_SCHEMES",
    "INT4_BLOCKS",
    "INT8_DYNAMIC",
    "INT8_PER_CHANNEL",
    "INT8_PER_TENSOR",
    "LAYERS_ONLY",
    "PER_CHANNEL",
    "PER_CHANNEL_OPSET",
    "PER_TENSOR",
    "SCHEMES",
    "SEQUENCE_SCHEMES",
    "Quantizer",
    "Scheme",
    "default_schemes",
    "works_on_sequences",
]
