"""Which inputs are images, and which layers read one."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.graph import Layer, Model, Trait, trace_back
from onnxlint_q.graph.operators import Product

COLOURS = frozenset({1, 3, 4})
"""Channels that an image may have: grey, three colours, and these with transparency."""
# Pixels keep their values on the way, wherever they go.
_PIXELS = Trait.MOVES | Trait.COPIES | Trait.JOINS


def is_image(shape: Sequence[int | None] | None) -> bool:
    """Whether a tensor of this shape holds images: a batch, two axes of pixels, and colours behind or before them."""
    return shape is not None and len(shape) == 4 and not {shape[1], shape[3]}.isdisjoint(COLOURS | {None})


def channels_last(shape: Sequence[int | None]) -> bool:
    """Whether an image of this shape, of four axes, looks like NHWC."""
    return shape[3] in COLOURS and shape[1] not in COLOURS


def reads_image(model: Model, layer: Layer) -> bool:
    """Whether a convolution reads an image input, with nothing but moves between."""
    if layer.inputs.product is not Product.CONVOLUTION or len(layer.weight_shape) != 4 or layer.depthwise:
        return False
    images = {value.name for value in model.inputs if is_image(value.type.shape)}
    sources = [key for key in trace_back(model, layer.input, _PIXELS).ends if not model.is_constant(key)]
    return bool(sources) and images.issuperset(sources)
