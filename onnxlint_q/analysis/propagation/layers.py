"""Layers: Conv, ConvTranspose, Gemm and MatMul with a constant weight, as maps of channel vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.propagation.population import (
    IMAGE_CORRELATION,
    NEIGHBOUR_CORRELATION,
    Samples,
    along,
    bounded,
    finite,
    read_taps,
    write_taps,
)
from onnxlint_q.analysis.propagation.prior import reads_image
from onnxlint_q.analysis.propagation.step import Edge, Site, Step
from onnxlint_q.analysis.propagation.transfer import Taps
from onnxlint_q.graph import Layer, Model

Blocks = npt.NDArray[np.float32]
_MANY_TAPS, _RUN = 64, 8


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """The weight of a layer as a linear map, or an error of it.

    Attributes:
        blocks: `[group, outputs, inputs, taps]`, a view of the file's values where the layout allows.
        density: share of the taps that meet one output position: less than 1 for a strided ConvTranspose.
    """

    blocks: Blocks
    density: float = 1.0
    correlation: float = NEIGHBOUR_CORRELATION

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return int(self.blocks.shape[3])

    @property
    def inputs(self) -> int:
        """Input channels, of all groups."""
        return int(self.blocks.shape[0] * self.blocks.shape[2])

    def push(self, samples: Samples) -> Samples:
        """`[samples, inputs]` to `[samples, outputs]`."""
        share = np.float32(np.sqrt(self.density))
        return read_taps(
            samples,
            self.taps,
            lambda tap, values: _push(self.blocks[..., tap], values) * share,
            _push(self._together(), samples),
            self.correlation,
        )

    def pull(self, rows: Samples) -> tuple[Samples, float]:
        """The adjoint of `push`, with what `write_taps` gives beside it."""
        share = np.float32(np.sqrt(self.density))
        return write_taps(
            rows,
            self.taps,
            lambda tap, values: _pull(self.blocks[..., tap], values) * share,
            _pull(self._together(), rows),
            self.correlation,
        )

    def _together(self) -> Blocks:
        if self.taps == 1:
            return self.blocks[..., 0]
        return np.asarray(self.blocks.sum(axis=3) * np.float32(self.density), np.float32)


def kernel_of(model: Model, layer: Layer, matrix: npt.NDArray[np.float32]) -> Kernel:
    """The kernel of a layer whose weight is given as `[output channels, taps]`."""
    taps = int(np.prod(layer.weight_shape[2:])) if "Conv" in layer.op_type else 1
    blocks = matrix.reshape(layer.group, layer.channels // layer.group, -1, taps)
    correlation = NEIGHBOUR_CORRELATION
    if reads_image(model, layer):
        correlation = IMAGE_CORRELATION
        if taps > _MANY_TAPS and taps % _RUN == 0:
            # The patches of a vision transformer: pixels next to each other are taken for equal.
            blocks = blocks.reshape(*blocks.shape[:3], -1, _RUN).sum(axis=4)
    if layer.op_type != "ConvTranspose":
        return Kernel(blocks, correlation=correlation)
    strides = float(np.prod(layer.node.ints("strides") or (1,)))
    return Kernel(blocks, max(1 / max(strides, 1.0), 1 / taps))


def channel_axes(layer: Layer) -> tuple[int, int]:
    """Channel axis of a layer's input and of its output; negative counts from the end."""
    if "Conv" in layer.op_type:
        return 1, 1
    return (-2, -2) if layer.weight_left else (-1, -1)


def channel_rows(rows: Samples, axis: int, channels: int) -> Samples:
    """Rows of a tensor as `[samples, channels]`: an error is shared by all places along the other axes."""
    axis = axis % (rows.ndim - 1) + 1
    rest = tuple(a for a in range(1, rows.ndim) if a != axis)
    rows = rows.sum(axis=rest) if rest else rows
    if rows.shape[1] == 1 != channels:
        rows = np.broadcast_to(rows / np.float32(channels), (rows.shape[0], channels))
    return rows


def layer_rule(site: Site, layer: Layer) -> Step | None:
    """`y = W x + b`, with what folds in afterwards left to the nodes after it."""
    samples = site.known.get(layer.input)
    if samples is None or not layer.is_float or (layer.op_type == "MatMul" and len(layer.weight_shape) != 2):
        return None
    shape, node = samples.shape[1:], layer.node
    bounded((layer.channels,))
    axis_in, axis_out = channel_axes(layer)
    scale = np.float32(node.float("alpha", 1.0) if layer.op_type == "Gemm" else 1.0)
    kernel = kernel_of(site.model, layer, layer.by_channel(layer.read_weight(site.model)))
    output = kernel.push(along(samples, axis_in, kernel.inputs)) * scale
    bias = site.constant(2) if layer.bias else None
    if bias is not None and bias.size in {1, layer.channels}:
        output = output + bias.ravel() * np.float32(node.float("beta", 1.0) if layer.op_type == "Gemm" else 1.0)
    rank = len(shape)
    wide = [1] * rank
    wide[axis_out % rank] = layer.channels

    def back(rows: Samples) -> tuple[Samples, float]:
        kernel = kernel_of(site.model, layer, layer.by_channel(layer.read_weight(site.model)))
        inner, apart = kernel.pull(channel_rows(rows, axis_out, layer.channels))
        return _over(inner * scale, axis_in, shape), apart

    return Step((finite(output).reshape(-1, *wide),), (Edge(layer.input, Taps(back)),))


def _over(rows: Samples, axis: int, shape: tuple[int, ...]) -> Samples:
    """The adjoint of `along`: vectors over one axis of a tensor, spread evenly over its other places."""
    axis %= len(shape)
    if shape[axis] == 1 != rows.shape[1]:
        rows = rows.sum(axis=1, keepdims=True)
    wide = [1] * len(shape)
    wide[axis] = shape[axis]
    places = np.float32(max(int(np.prod(shape)) // max(shape[axis], 1), 1))
    return np.broadcast_to(rows.reshape(-1, *wide) / places, (rows.shape[0], *shape))


def _push(matrix: Blocks, samples: Samples) -> Samples:
    """`[samples, all inputs]` times the transpose of `[group, outputs, inputs]`."""
    return _pull(matrix.transpose(0, 2, 1), samples)


def _pull(matrix: Blocks, rows: Samples) -> Samples:
    """`[samples, all outputs]` times `[group, outputs, inputs]`."""
    groups, outputs, inputs = matrix.shape
    if groups == 1:
        return np.asarray(rows @ matrix[0], np.float32)
    if outputs == inputs == 1:
        return np.asarray(rows * matrix[:, 0, 0], np.float32)
    grouped = np.ascontiguousarray(rows.reshape(-1, groups, outputs).transpose(1, 0, 2))
    return np.asarray((grouped @ matrix).transpose(1, 0, 2).reshape(rows.shape[0], -1), np.float32)
