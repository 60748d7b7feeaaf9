"""All schemes by name."""

from __future__ import annotations

from collections.abc import Iterator

from onnxlint_q.analysis.number_formats import FLOAT8, INT4, INT8, UINT4, UINT16, Sharing
from onnxlint_q.analysis.schemes.scheme import PER_CHANNEL, PER_TENSOR, Quantizer, Scheme

BLOCK_SIZES = (32, 64, 128)
"""Weights of a block; the first is that of the scheme whose name says none."""


def _blocks() -> Iterator[Scheme]:
    """`int4-blocks[-SIZE][-asymmetric]`."""
    for number, kind in ((INT4, ""), (UINT4, "-asymmetric")):
        for size in BLOCK_SIZES:
            name = f"int4-blocks{f'-{size}' if size != BLOCK_SIZES[0] else ''}{kind}"
            yield Scheme(name, Sharing(axis=1, block_size=size), number, None, Quantizer.BLOCKS)


INT8_PER_TENSOR = Scheme("int8-per-tensor", PER_TENSOR)
"""int8 weights and uint8 activations, one scale a tensor."""
INT8_PER_CHANNEL = Scheme("int8-per-channel")
"""int8 weights with one scale an output channel, uint8 activations."""
INT8_PER_TENSOR_LAYERS = Scheme("int8-per-tensor-layers-only", PER_TENSOR, layers_only=True)
INT8_PER_CHANNEL_LAYERS = Scheme("int8-per-channel-layers-only", layers_only=True)
INT8_DYNAMIC = Scheme("int8-dynamic", PER_TENSOR, quantizer=Quantizer.DYNAMIC)

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        INT8_PER_TENSOR,
        INT8_PER_CHANNEL,
        INT8_PER_TENSOR_LAYERS,
        INT8_PER_CHANNEL_LAYERS,
        INT8_DYNAMIC,
        # quantize_dynamic(per_channel=True) gives convolutions one scale all the same.
        Scheme("int8-dynamic-per-channel", PER_CHANNEL, quantizer=Quantizer.DYNAMIC, convolutions=PER_TENSOR),
        Scheme("int8-symmetric", activations=INT8),
        Scheme("int8-weight-only", activations=None),
        Scheme("int16-activations", activations=UINT16),
        Scheme("int4-weights", weights=INT4),
        Scheme("fp8", weights=FLOAT8, activations=FLOAT8),
        *_blocks(),
    )
}
"""All schemes by name, in the order in which they are listed."""
LAYERS_ONLY = {INT8_PER_TENSOR: INT8_PER_TENSOR_LAYERS, INT8_PER_CHANNEL: INT8_PER_CHANNEL_LAYERS}
"""By scheme, the same of which only layers are quantised."""
INT4_BLOCKS = SCHEMES["int4-blocks"]
