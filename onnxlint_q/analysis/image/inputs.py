"""Which inputs are images or signals over time, and which layers read one."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.graph import Layer, Model, Trait, trace_back
from onnxlint_q.graph.operators import Product

COLOURS = frozenset({1, 3, 4})
"""Channels that an image may have: grey, three colours, and these with transparency."""
# Taps of a filter.
_LONG = 16
# Pixels keep their values on the way, wherever they go.
_PIXELS = Trait.MOVES | Trait.COPIES | Trait.JOINS


def signal_of(model: Model, layer: Layer) -> frozenset[str]:
    """The inputs that a bank of filters reads, with nothing but moves between: a signal over time, such as sound.

    It has one channel, and the kernels are long. None for any other layer.
    """
    shape = layer.weight_shape
    if layer.inputs.product is not Product.CONVOLUTION or len(shape) != 3 or shape[1] != 1 or shape[2] < _LONG:
        return frozenset()
    inputs = {value.name for value in model.inputs}
    sources = [key for key in trace_back(model, layer.input, _PIXELS).ends if not model.is_constant(key)]
    return frozenset(sources) if layer.group == 1 and inputs.issuperset(sources) else frozenset()


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
