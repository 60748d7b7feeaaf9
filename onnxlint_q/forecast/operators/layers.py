"""Layers: Conv, ConvTranspose, Gemm and MatMul with a constant weight, as maps of channel vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.image.inputs import reads_image, signal_of
from onnxlint_q.cores import on_all_cores, portions
from onnxlint_q.forecast.population import (
    IMAGE_CORRELATION,
    IMAGES,
    NEIGHBOUR_CORRELATION,
    Samples,
    finite,
    read_apart,
    read_taps,
    signal_taps,
    write_apart,
    write_taps,
)
from onnxlint_q.forecast.step import Edge, Site, Step
from onnxlint_q.forecast.transfer import ByImage, Taps, random_signs
from onnxlint_q.forecast.unmodelled import UnmodelledError, axis_in, bounded
from onnxlint_q.graph import Layer, Model
from onnxlint_q.graph.operators import Product

Blocks = npt.NDArray[np.float32]
_MANY_TAPS, _RUN = 64, 8
# Multiplications a sample, and elements of the result, up to which a layer is applied to each place.
_MULTIPLIED, _HELD = 1 << 20, 1 << 13
# Multiplications from which a product gains by several threads.
_LARGE = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """The weight of a layer as a linear map, or an error of it.

    Attributes:
        blocks: `[group, outputs, inputs, taps]`, a view of the file's values where the layout allows.
        density: share of the taps that meet one output position: less than 1 for a strided ConvTranspose.
        correlation: between what two taps read.
        on_signal: the taps go along a signal over time, see `signal_taps`.
    """

    blocks: Blocks
    density: float = 1.0
    correlation: float = NEIGHBOUR_CORRELATION
    on_signal: bool = False

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return int(self.blocks.shape[3])

    @property
    def inputs(self) -> int:
        """Input channels, of all groups."""
        return int(self.blocks.shape[0] * self.blocks.shape[2])

    @property
    def is_matrix(self) -> bool:
        """Whether it multiplies each sample by one matrix."""
        return self.taps == len(self.blocks) == 1 and not self.on_signal

    def push(self, samples: Samples) -> Samples:
        """`[samples, inputs]` to `[samples, outputs]`."""
        if self.on_signal:
            return np.asarray(signal_taps(samples, self.taps) @ self._filters().T, np.float32)
        if self._one_by_one:
            return read_apart(samples, self._together()[:, 0, 0], self._apart(), self.correlation)
        share = np.float32(np.sqrt(self.density))
        return read_taps(
            samples,
            self.taps,
            lambda tap, values: _push(self.blocks[..., tap], values) * share,
            _push(self._together(), samples),
            self.correlation,
        )

    def pull(self, rows: Samples) -> tuple[Samples, ByImage]:
        """The adjoint of `push`, with what `write_taps` gives beside it.

        At a signal, rows that noise meets as it does those of all taps, each of which has its own.
        """
        if self.on_signal:
            power = np.square(rows @ self._filters()).sum(axis=1, keepdims=True)
            signs = random_signs(np.random.default_rng(0), power.shape)
            return np.asarray(np.sqrt(power) * signs, np.float32), np.ones(IMAGES)
        if self._one_by_one:
            return write_apart(rows, self._together()[:, 0, 0], self._apart(), self.correlation)
        share = np.float32(np.sqrt(self.density))
        return write_taps(
            rows,
            self.taps,
            lambda tap, values: _pull(self.blocks[..., tap], values) * share,
            _pull(self._together(), rows),
            self.correlation,
        )

    @property
    def _one_by_one(self) -> bool:
        """Whether each output channel reads one input channel, through several taps."""
        return self.taps > 1 and self.blocks.shape[1] == self.blocks.shape[2] == 1

    def _filters(self) -> Blocks:
        """`[outputs, taps]` of a kernel that reads one channel."""
        return self.blocks[0, :, 0]

    def _apart(self) -> Blocks:
        """`[taps, channels]` of such a kernel."""
        return self.blocks[:, 0, 0].T * np.float32(np.sqrt(self.density))

    def _together(self) -> Blocks:
        if self.taps == 1:
            return self.blocks[..., 0]
        return np.asarray(self.blocks.sum(axis=3) * np.float32(self.density), np.float32)


def kernel_of(model: Model, layer: Layer, matrix: npt.NDArray[np.float32]) -> Kernel:
    """The kernel of a layer whose weight is given as `[output channels, taps]`."""
    taps = layer.taps
    blocks = matrix.reshape(layer.group, layer.channels // layer.group, -1, taps)
    correlation = NEIGHBOUR_CORRELATION
    if signal_of(model, layer):
        return Kernel(blocks, on_signal=True)
    if reads_image(model, layer):
        correlation = IMAGE_CORRELATION
        if taps > _MANY_TAPS and taps % _RUN == 0:
            # The patches of a vision transformer: pixels next to each other are taken for equal.
            blocks = blocks.reshape(*blocks.shape[:3], -1, _RUN).sum(axis=4)
    if layer.inputs.product is not Product.TRANSPOSED:
        return Kernel(blocks, correlation=correlation)
    strides = float(np.prod(layer.node.ints("strides") or (1,)))
    return Kernel(blocks, max(1 / max(strides, 1.0), 1 / taps))


def channel_axis(layer: Layer) -> int:
    """Channel axis of a layer's input and of its output; negative counts from the end."""
    if layer.inputs.convolves:
        return 1
    return -2 if layer.weight_left else -1


@dataclass(frozen=True, slots=True)
class Frame:
    """How a tensor is read as `[samples, places, channels]`, and written back.

    A layer that reads one place at a time is applied to every place that is told apart, as long as these are few; any
    other reads the mean over them, and its result has none.

    Attributes:
        shape: of the tensor, without samples.
        axis: of the channels.
        apart: whether the places are told apart.
    """

    shape: tuple[int, ...]
    axis: int
    apart: bool

    def read(self, values: Samples, channels: int) -> Samples:
        """`[samples, *shape]` as vectors over the channels; one value stands for all channels where they are alike."""
        values = _turned(values, axis_in(self.axis, values.ndim - 1) + 1, -1)
        values = values.reshape(len(values), -1, values.shape[-1])
        if values.shape[-1] not in {1, channels}:
            raise UnmodelledError(f"it reads {channels} channels, its input has {values.shape[-1]}")
        if not self.apart and values.shape[1] > 1:
            values = values.mean(axis=1, keepdims=True)
        return np.broadcast_to(values, (*values.shape[:2], channels))

    def result(self, values: Samples) -> Samples:
        """Vectors over other channels as a tensor again."""
        return _turned(values.reshape(len(values), *self._rest(), values.shape[-1]), -1, self._axis + 1)

    def read_rows(self, rows: Samples, channels: int) -> Samples:
        """Rows of the result as vectors over its channels: an error is shared by places that are not told apart."""
        rows = _turned(rows, self.axis % (rows.ndim - 1) + 1, -1)
        rows = rows.reshape(len(rows), -1, rows.shape[-1])
        if not self.apart and rows.shape[1] > 1:
            rows = rows.sum(axis=1, keepdims=True)
        if rows.shape[-1] == 1 != channels:
            rows = np.broadcast_to(rows / np.float32(channels), (*rows.shape[:-1], channels))
        return rows

    def rows(self, vectors: Samples) -> Samples:
        """The adjoint of `read`: vectors over the channels as rows of the tensor."""
        if self.shape[self._axis] == 1 != vectors.shape[-1]:
            vectors = vectors.sum(axis=-1, keepdims=True)
        if self.apart:
            return self.result(vectors)
        wide = [1] * len(self.shape)
        wide[self._axis] = self.shape[self._axis]
        places = np.float32(max(int(np.prod(self.shape)) // max(self.shape[self._axis], 1), 1))
        return np.broadcast_to(vectors.reshape(-1, *wide) / places, (len(vectors), *self.shape))

    @property
    def _axis(self) -> int:
        return self.axis % len(self.shape)

    def _rest(self) -> tuple[int, ...]:
        return tuple(n if self.apart else 1 for a, n in enumerate(self.shape) if a != self._axis)


def _turned(values: Samples, source: int, target: int) -> Samples:
    """`moveaxis`, at once where the axis stays: most layers of most networks have their channels last."""
    return values if (source - target) % values.ndim == 0 else np.moveaxis(values, source, target)


def frame_of(layer: Layer, shape: tuple[int, ...]) -> Frame:
    """How a layer reads a tensor of which `shape` is told apart."""
    axis = channel_axis(layer)
    places = int(np.prod(shape)) // max(shape[axis_in(axis, len(shape))], 1)
    weight = int(np.prod(layer.weight_shape))
    few = places * weight <= _MULTIPLIED and places * layer.channels <= _HELD
    one_by_one = layer.taps == 1 and layer.inputs.product is not Product.TRANSPOSED
    return Frame(shape, axis, places == 1 or (one_by_one and few))


def layer_rule(site: Site, layer: Layer) -> Step:
    """`y = W x + b`, with what folds in afterwards left to the nodes after it."""
    samples = site.known.get(layer.input)
    if samples is None:
        raise UnmodelledError("nothing is known of what it reads")
    if not layer.is_float:
        raise UnmodelledError("it computes in integers")
    if layer.inputs.product is Product.MATMUL and len(layer.weight_shape) != 2:
        raise UnmodelledError("its weight is no matrix")
    node = layer.node
    bounded((layer.channels,))
    frame = frame_of(layer, samples.shape[1:])
    is_gemm = layer.inputs.product is Product.GEMM
    scale = np.float32(layer.factor)
    kernel = kernel_of(site.model, layer, layer.by_channel(layer.read_weight(site.model)))
    values = frame.read(samples, kernel.inputs)
    places = values.shape[1]
    output = kernel.push(values.reshape(-1, kernel.inputs))
    if scale != 1:
        output *= scale
    bias = site.constant(2) if layer.bias else None
    if bias is not None and bias.size in {1, layer.channels}:
        output += bias.ravel() * np.float32(node.float("beta", 1.0) if is_gemm else 1.0)

    def back(rows: Samples) -> tuple[Samples, ByImage]:
        kernel = kernel_of(site.model, layer, layer.by_channel(layer.read_weight(site.model)))
        vectors = frame.read_rows(rows, layer.channels)
        inner, apart = kernel.pull(vectors.reshape(-1, layer.channels))
        if scale != 1:
            inner = inner * scale
        return frame.rows(inner.reshape(len(vectors), -1, kernel.inputs)), apart

    result = frame.result(finite(output).reshape(-1, places, layer.channels))
    return Step((result,), (Edge(layer.input, Taps(back)),))


def product(rows: Samples, matrix: Blocks) -> Samples:
    """`rows @ matrix`, a large one on all cores."""
    if len(rows) * matrix.size < _LARGE:
        return np.asarray(rows @ matrix, np.float32)
    made = np.empty((len(rows), matrix.shape[1]), np.float32)

    def fill(part: slice) -> None:
        np.matmul(rows, matrix[:, part], out=made[:, part])

    on_all_cores(fill, list(portions(matrix.shape[1], len(matrix), 1 << 20)))
    return made


def _push(matrix: Blocks, samples: Samples) -> Samples:
    """`[samples, all inputs]` times the transpose of `[group, outputs, inputs]`."""
    return _pull(matrix.transpose(0, 2, 1), samples)


def _pull(matrix: Blocks, rows: Samples) -> Samples:
    """`[samples, all outputs]` times `[group, outputs, inputs]`."""
    groups, outputs, inputs = matrix.shape
    if groups == 1:
        return product(rows, matrix[0])
    if outputs == inputs == 1:
        return np.asarray(rows * matrix[:, 0, 0], np.float32)
    grouped = np.ascontiguousarray(rows.reshape(-1, groups, outputs).transpose(1, 0, 2))
    return np.asarray((grouped @ matrix).transpose(1, 0, 2).reshape(rows.shape[0], -1), np.float32)
