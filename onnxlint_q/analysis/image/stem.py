"""The stem: the first convolution of an image network, written as one on the pixels of the image input.

Exporters put moves of pixels in front of it: a change of layout, padding, or the slices of a "focus" layer that turn
blocks of pixels into channels. They are followed back, so that the kernel of the stem is indexed by the channels and
positions of the input itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import BatchNorm, FoldedLayer
from onnxlint_q.analysis.image.inputs import COLOURS, reads_image
from onnxlint_q.graph import Model, Node

Vector = npt.NDArray[np.float64]

# A covariance of so many taps squared is 8 MB; a patch embedding of 16x16 colour pixels has 768.
_MOST_TAPS = 1024
_TO_NCHW = (0, 3, 1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Stem:
    """A convolution `y = kernel * image + bias` on an image input.

    Attributes:
        layer: the layer that it is.
        input: name of the image input.
        channels_last: the input's layout is NHWC.
        kernel: `[outputs, channels, height, width]`, by position in the input.
        bias: one value an output channel; None where the layer has none.
        recorded: the BatchNormalization behind it: its mean and variance are those of `y` in training.
        scale_free: a normalisation at run time reads `y`, so the scale of the input does not matter.
    """

    layer: FoldedLayer
    input: str
    channels_last: bool
    kernel: Vector
    bias: Vector | None
    recorded: BatchNorm | None
    scale_free: bool


@dataclass(frozen=True, slots=True)
class _View:
    """How the channels of a tensor look at the pixels: each at a channel and an offset, all at one stride."""

    input: str
    channels_last: bool
    taps: tuple[tuple[int, int, int], ...]
    stride: tuple[int, int] = (1, 1)


def find_stem(model: Model, layers: Sequence[FoldedLayer]) -> Stem | None:
    """The first convolution that reads an image input through nothing but moves of pixels; None if there is none."""
    for folded in layers:
        layer = folded.layer
        if not layer.is_float or layer.group != 1 or folded.before is not None or not reads_image(model, layer):
            continue
        view = _view(model, layer.input, {})
        if view is None or len(view.taps) != layer.weight_shape[1]:
            continue
        kernel = _kernel(folded, view, model)
        bias = layer.read_bias(model)
        if kernel is None or not np.isfinite(kernel).all() or bias is None:
            return None
        readers = model.consumers(layer.output)
        free = any(node.op_type.endswith("Normalization") for node in readers) and folded.after is None
        return Stem(folded, view.input, view.channels_last, kernel, bias if layer.bias else None, folded.after, free)
    return None


def _kernel(folded: FoldedLayer, view: _View, model: Model) -> Vector | None:
    """The layer's weight spread over the pixels that it looks at."""
    weight = folded.layer.read_weight(model).astype(np.float64)
    outputs, _, rows, columns = weight.shape
    down, right = (*folded.layer.node.ints("dilations"), 1, 1)[:2]
    step_y, step_x = down * view.stride[0], right * view.stride[1]
    channels = 1 + max(tap[0] for tap in view.taps)
    height = step_y * (rows - 1) + 1 + max(tap[1] for tap in view.taps)
    width = step_x * (columns - 1) + 1 + max(tap[2] for tap in view.taps)
    if step_y < 1 or step_x < 1 or channels * height * width > _MOST_TAPS:
        return None
    kernel = np.zeros((outputs, channels, height, width))
    for number, (channel, y, x) in enumerate(view.taps):
        last_y, last_x = y + step_y * (rows - 1) + 1, x + step_x * (columns - 1) + 1
        kernel[:, channel, y:last_y:step_y, x:last_x:step_x] += weight[:, number]
    return kernel


def _view(model: Model, key: str, known: dict[str, _View | None]) -> _View | None:
    """How `key`, which comes from image inputs alone, looks at one; None if it is more than moved pixels of one.

    Tensors that several ways lead to are looked at once, and are in `known` then.
    """
    if key not in known:
        known[key] = _seen(model, key, known)
    return known[key]


def _seen(model: Model, key: str, known: dict[str, _View | None]) -> _View | None:
    image = next((value for value in model.inputs if value.name == key), None)
    if image is not None:
        shape = image.type.shape
        return _pixels(key, shape[1], last=False) if shape is not None and len(shape) == 4 else None
    node = model.producer(key)
    if node is None or not node.inputs or not node.is_standard:
        return None
    if node.op_type == "Concat":
        return _joined(node, [_view(model, part, known) for part in node.inputs])
    if node.op_type == "Transpose":
        source = next((value for value in model.inputs if value.name == node.input(0)), None)
        shape = source.type.shape if source is not None else None
        if shape is None or len(shape) != 4 or node.ints("perm") != _TO_NCHW:
            return None
        return _pixels(node.input(0), shape[3], last=True)
    below = _view(model, node.input(0), known)
    if below is None:
        return None
    match node.op_type:
        case "Identity" | "Cast" | "Pad":
            return below
        case "Slice":
            return _sliced(below, _slice_bounds(model, node))
        case "SpaceToDepth":
            block = node.int("blocksize", 1)
            parts = [_sliced(below, {2: (y, block), 3: (x, block)}) for y in range(block) for x in range(block)]
            return _concatenated(parts) if 1 <= block <= 8 else None
        case _:
            return None


def _pixels(name: str, channels: int | None, *, last: bool) -> _View | None:
    return _View(name, last, tuple((c, 0, 0) for c in range(channels))) if channels in COLOURS else None


def _joined(node: Node, parts: Sequence[_View | None]) -> _View | None:
    return _concatenated(parts) if node.int("axis", 1) in {1, -3} else None


def _concatenated(parts: Sequence[_View | None]) -> _View | None:
    known = [part for part in parts if part is not None]
    if len(known) != len(parts) or len({(part.input, part.channels_last, part.stride) for part in known}) != 1:
        return None
    if sum(len(part.taps) for part in known) > _MOST_TAPS:
        return None
    first = known[0]
    return _View(first.input, first.channels_last, tuple(t for part in known for t in part.taps), first.stride)


def _sliced(view: _View, bounds: Mapping[int, tuple[int, int]] | None) -> _View | None:
    """`view` after a slice with (start, step) of the axes 2 and 3."""
    if bounds is None:
        return None
    (start_y, step_y), (start_x, step_x) = bounds.get(2, (0, 1)), bounds.get(3, (0, 1))
    if min(start_y, start_x) < 0 or min(step_y, step_x) < 1:
        return None
    moved = ((c, y + start_y * view.stride[0], x + start_x * view.stride[1]) for c, y, x in view.taps)
    stride = view.stride[0] * step_y, view.stride[1] * step_x
    return _View(view.input, view.channels_last, tuple(moved), stride)


def _slice_bounds(model: Model, node: Node) -> dict[int, tuple[int, int]] | None:
    """(start, step) by spatial axis; None if it cuts another axis or is not constant."""
    if node.ints("starts"):  # opset 9 and lower
        parts = [node.ints("starts"), node.ints("axes"), ()]
    else:
        keys = node.input(1), node.input(3), node.input(4)
        parts = []
        for key in keys:
            values = model.constant(key) if key else np.empty(0, np.int64)
            if values is None or values.dtype.kind not in "iu":
                return None
            parts.append(tuple(int(value) for value in np.ravel(values)))
    starts = parts[0]
    axes = parts[1] or tuple(range(len(starts)))
    steps = parts[2] or (1,) * len(starts)
    if not len(starts) == len(axes) == len(steps):
        return None
    bounds = {axis % 4: (start, step) for axis, start, step in zip(axes, starts, steps, strict=True)}
    return bounds if bounds.keys() <= {2, 3} else None
