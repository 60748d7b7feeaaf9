"""Operators that mix channels: layers, BatchNormalization, pooling, products of two tensors.

The taps of one kernel see neighbouring pixels. Their correlation is between that of a constant image (1) and that of
white noise (0); a share `TAP_CORRELATION` of the variance is taken as fully correlated, the rest as independent, so
`var_out = ρ Σ_i (Σ_p w_ip)² var_i + (1 - ρ) Σ_i Σ_p w_ip² var_i`. Channels are taken as independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.propagation.signal import Array, Moments, gaussian
from onnxlint_q.analysis.propagation.step import Edge, Rule, Site, Step
from onnxlint_q.analysis.propagation.transfer import Averaged, Diagonal, Floats, Gain
from onnxlint_q.graph import Layer, Model

TAP_CORRELATION = 1.0
POOL_CORRELATION = 0.3


def as_blocks(layer: Layer, matrix: npt.NDArray[np.float32]) -> Floats:
    """A layer's weight, given as `[output channels, taps]`, as `[group, outputs, inputs, taps]`."""
    taps = int(np.prod(layer.weight_shape[2:])) if "Conv" in layer.op_type else 1
    return matrix.reshape(layer.group, layer.channels // layer.group, -1, taps)


def density(layer: Layer) -> float:
    """Share of a kernel's taps that meet one output position: 1, but for a strided ConvTranspose less."""
    if layer.op_type != "ConvTranspose":
        return 1.0
    taps = float(np.prod(layer.weight_shape[2:]))
    return max(1.0 / max(float(np.prod(layer.node.ints("strides") or (1,))), 1.0), 1.0 / max(taps, 1.0))


def axes_of(layer: Layer) -> tuple[int, int]:
    """Channel axis of a layer's input and of its output; negative counts from the end."""
    if "Conv" in layer.op_type:
        return 1, 1
    return (-2, -2) if layer.weight_left else (-1, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """The linear map of a layer, read from the file each time it is needed.

    Attributes:
        shape: of the input's moments.
    """

    model: Model
    layer: Layer
    shape: tuple[int, ...]

    def blocks(self) -> Floats:
        """The weight, `[group, outputs, inputs, taps]`."""
        scale = self.layer.node.float("alpha", 1.0) if self.layer.op_type == "Gemm" else 1.0
        blocks = as_blocks(self.layer, self.layer.by_channel(self.layer.read_weight(self.model)))
        return blocks if scale == 1.0 else blocks * np.float32(scale)

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        layer = self.layer
        return (
            int(np.prod(layer.weight_shape))
            // layer.channels
            // (int(np.prod(layer.weight_shape[2:])) if "Conv" in layer.op_type else 1)
            * layer.group
        )

    def push(self, mean: Array, var: Array) -> tuple[Array, Array]:
        """Mean and variance per output channel, of those per input channel; no bias."""
        together, apart = squares(self.blocks())
        share = density(self.layer)
        total = self.blocks().sum(axis=3) * np.float32(share)
        out_mean = _times(total, mean)
        spread = TAP_CORRELATION * together * share**2 + (1 - TAP_CORRELATION) * apart * share
        return out_mean, _times(spread, var)

    def pull(self, gain: Gain) -> Gain:
        """The adjoint of `push`."""
        axis_in, axis_out = axes_of(self.layer)
        blocks, share = self.blocks(), np.float32(density(self.layer))
        together, apart = squares(blocks)
        rows, own, white = channel_gain(gain, axis_out, self.layer.channels)
        noise = TAP_CORRELATION * together * share**2 + (1 - TAP_CORRELATION) * apart * share
        return self._spread(
            row_products(rows, blocks.sum(axis=3) * share),
            row_products(own[None], noise)[0],
            row_products(white[None], apart * share)[0],
            axis_in,
        )

    def _spread(self, rows: Floats, own: Floats, white: Floats, axis: int) -> Gain:
        """Vectors over the input channels, as a gain of the input's shape."""
        axis %= len(self.shape)
        wide = tuple(-1 if a == axis else 1 for a in range(len(self.shape)))
        length = self.shape[axis]
        if length == 1 != rows.shape[1]:
            rows, own, white = (
                rows.sum(axis=1, keepdims=True),
                own.sum(keepdims=True),
                white.sum(keepdims=True),
            )
        places = np.float32(np.prod(self.shape) / max(length, 1))
        return Gain(
            np.broadcast_to(rows.reshape(rows.shape[0], *wide) / places, (rows.shape[0], *self.shape)),
            np.broadcast_to(own.reshape(wide) / places, self.shape),
            np.broadcast_to(white.reshape(wide) / places, self.shape),
        )


def squares(blocks: Floats) -> tuple[Floats, Floats]:
    """`(Σ_p w)²` and `Σ_p w²` of a kernel, `[group, outputs, inputs]`."""
    if blocks.shape[3] == 1:
        square = blocks[..., 0] ** 2
        return square, square
    return blocks.sum(axis=3) ** 2, np.einsum("goip,goip->goi", blocks, blocks)


def channel_gain(gain: Gain, axis: int, channels: int) -> tuple[Floats, Floats, Floats]:
    """Rows `[K, channels]`, own and white `[channels]` of a gain; the other axes share the noise."""
    axis %= gain.own.ndim
    others = tuple(a for a in range(gain.own.ndim) if a != axis)
    rows = gain.rows.sum(axis=tuple(a + 1 for a in others))
    own, white = gain.own.sum(axis=others), gain.white.sum(axis=others)
    if own.shape[0] == 1 != channels:  # one figure for all channels
        ones = np.ones(channels, np.float32) / channels
        return rows * np.sqrt(ones), own * ones, white * ones
    return rows, own, white


def _times(matrix: Floats, values: Array) -> Array:
    """`[group, outputs, inputs]` times a vector over all inputs."""
    grouped = values.astype(np.float32).reshape(matrix.shape[0], -1, 1)
    return np.asarray((matrix @ grouped).ravel(), np.float64)


def row_products(rows: Floats, matrix: Floats) -> Floats:
    """Row vectors `[K, all outputs]` times `[group, outputs, inputs]`: `[K, all inputs]`."""
    groups, outputs, inputs = matrix.shape
    if groups == 1:
        return np.asarray(rows @ matrix[0], np.float32)
    if outputs == inputs == 1:
        return rows * matrix[:, 0, 0]
    grouped = np.ascontiguousarray(rows.reshape(-1, groups, outputs).transpose(1, 0, 2))
    return np.asarray((grouped @ matrix).transpose(1, 0, 2).reshape(rows.shape[0], -1), np.float32)


def layer_rule(site: Site, layer: Layer) -> Step | None:
    """Conv, ConvTranspose, Gemm and MatMul with a constant weight."""
    moments = site.known.get(layer.input)
    if moments is None or not layer.is_float or (moments.mean.ndim < 2 and layer.op_type != "MatMul"):
        return None
    if layer.op_type == "MatMul" and len(layer.weight_shape) != 2:
        return None
    kernel = Kernel(site.model, layer, moments.shape)
    axis_in, axis_out = axes_of(layer)
    mean, var = kernel.push(*moments.along(axis_in, kernel.inputs))
    bias = site.constant(2) if layer.bias else None
    if bias is not None:
        scale = site.node.float("beta", 1.0) if layer.op_type == "Gemm" else 1.0
        mean = mean + scale * np.broadcast_to(bias.ravel(), mean.shape) if bias.size in {1, mean.size} else mean
    rank = moments.mean.ndim
    wide = tuple(-1 if a == axis_out % rank else 1 for a in range(rank))
    return Step((gaussian(mean.reshape(wide), var.reshape(wide)),), (Edge(layer.input, kernel),))


def batch_norm(site: Site) -> Step | None:
    """`y = gain x + shift`; its parameters say what it saw in training: mean beta, variance gamma²."""
    moments = site.moments(0)
    parameters = [site.constant(index) for index in range(1, 5)]
    if moments is None or moments.mean.ndim < 2:
        return None
    rank = moments.mean.ndim
    wide = (1, -1, *(1,) * (rank - 2))
    gamma, beta, mean, var = (p.reshape(wide) if p is not None else None for p in parameters)
    if gamma is None or beta is None or mean is None or var is None:
        return None
    gain = gamma / np.sqrt(var + site.node.float("epsilon", 1e-5))
    seen = gaussian(beta, gamma**2 * var / (var + site.node.float("epsilon", 1e-5)))
    gain = np.broadcast_to(gain, seen.shape)
    return Step((seen,), (Edge(site.node.input(0), Diagonal(gain, gain**2, moments.shape)),))


def global_pool(site: Site) -> Step | None:
    """GlobalAveragePool: the mean stays, a share of the variance does."""
    return average(site, tuple(range(2, _rank(site))), keep=True)


def average(site: Site, axes: tuple[int, ...], keep: bool, total: bool = False) -> Step | None:
    """Mean, or sum, over some axes."""
    moments = site.moments(0)
    if moments is None:
        return None
    rank = moments.mean.ndim
    axes = tuple(sorted({a % rank for a in axes}))
    places = int(np.prod([moments.shape[a] for a in axes]))
    count = max(site.positions(site.node.input(0), axes, 7) / max(places, 1), 1.0)
    scale = count * places if total else 1.0
    within = moments.var.mean(axis=axes, keepdims=True) / places
    mean = moments.mean.mean(axis=axes, keepdims=True)
    var = within * (POOL_CORRELATION + (1 - POOL_CORRELATION) / count)
    result = gaussian(mean * scale, var * scale**2)
    transfer = Averaged(count, moments.shape, scale)
    if keep:
        return Step((result,), (Edge(site.node.input(0), transfer),))
    shape = tuple(n for a, n in enumerate(result.shape) if a not in axes)
    squeezed = Moments(result.mean.reshape(shape), result.var.reshape(shape))
    from onnxlint_q.analysis.propagation.transfer import Chain, Reshaped

    return Step((squeezed,), (Edge(site.node.input(0), Chain(transfer, Reshaped(result.shape))),))


def reduce_mean(site: Site) -> Step | None:
    """ReduceMean and ReduceSum."""
    axes = site.integers(1, "axes") or tuple(range(_rank(site)))
    return average(site, axes, bool(site.node.int("keepdims", 1)), total=site.node.op_type == "ReduceSum")


def local_pool(site: Site) -> Step | None:
    """AveragePool: as global, over the window."""
    moments = site.moments(0)
    if moments is None:
        return None
    count = float(np.prod(site.node.ints("kernel_shape") or (1,)))
    keep = TAP_CORRELATION + (1 - TAP_CORRELATION) / count
    return Step(
        (gaussian(moments.mean, moments.var * keep),),
        (Edge(site.node.input(0), Averaged(count, moments.shape)),),
    )


def max_pool(site: Site) -> Step | None:
    """The largest of n Gaussians lies about `sqrt(2 ln n)` deviations up; a share of them is independent."""
    moments = site.moments(0)
    if moments is None:
        return None
    window = site.node.ints("kernel_shape")
    count = float(np.prod(window)) if window else float(site.positions(site.node.input(0), (2, 3), 7))
    rise = np.sqrt(2 * np.log(max(count, 1.0)) * (1 - TAP_CORRELATION))
    one = np.ones(moments.shape)
    result = gaussian(moments.mean + 0.8 * rise * np.sqrt(moments.var), moments.var)
    return Step((result,), (Edge(site.node.input(0), Diagonal(one, one, moments.shape)),))


def _rank(site: Site) -> int:
    moments = site.moments(0)
    return moments.mean.ndim if moments is not None else 0


def normalise(site: Site, axes: tuple[int, ...]) -> Step | None:
    """LayerNormalization and its kin: `gamma (x - mean) / deviation + beta` with both figures taken over `axes`."""
    moments = site.moments(0)
    if moments is None:
        return None
    rank = moments.mean.ndim
    axes = tuple(a % rank for a in axes)
    centre = moments.mean.mean(axis=axes, keepdims=True)
    variance = (moments.var + (moments.mean - centre) ** 2).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + max(site.node.float("epsilon", 1e-5), 1e-12))
    instance = site.node.op_type == "InstanceNormalization"
    wide = (1, -1, *(1,) * (rank - 2)) if instance or site.node.op_type == "GroupNormalization" else None
    gamma, beta = (None if v is None else (v.reshape(wide) if wide else v) for v in map(site.constant, (1, 2)))
    slope = inverse * (1.0 if gamma is None else gamma)
    offset = 0.0 if beta is None else beta
    result = gaussian((moments.mean - centre) * slope + offset, moments.var * slope**2)
    slope = np.broadcast_to(slope, result.shape)
    return Step((result,), (Edge(site.node.input(0), Diagonal(slope, slope**2, moments.shape)),))


def softmax(site: Site) -> Step | None:
    """`p = exp(x) / Σ exp(x)` over n log-normal terms: `Σ p² ≈ exp(var) / n`, at most one winner."""
    moments = site.moments(0)
    if moments is None:
        return None
    axis = site.node.int("axis", -1 if site.model.opset >= 13 else 1)
    n = site.positions(site.node.input(0), (axis,), 16)
    spread = min(float(moments.var.mean() + moments.mean.var()), 50.0)
    winners = min(1.0, float(np.exp(spread)) / max(n, 1))  # expected Σ p²
    mean = np.full(moments.shape, 1.0 / n)
    result = gaussian(mean, np.full(moments.shape, max(winners / n - 1.0 / n**2, 0.0)))
    slope = np.full(moments.shape, (1 - winners) / n)
    square = np.full(moments.shape, winners / n * max(1 - winners, 0.05) ** 2)
    edge = Edge(site.node.input(0), Diagonal(slope, np.maximum(square, slope**2), moments.shape))
    return Step((result,), (edge,))


RULES: Mapping[str, Rule] = {
    "BatchNormalization": batch_norm,
    "GlobalAveragePool": global_pool,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce_mean,
    "AveragePool": local_pool,
    "MaxPool": max_pool,
    "GlobalMaxPool": max_pool,
    "LayerNormalization": lambda site: normalise(site, tuple(range(site.node.int("axis", -1), 0)) or (-1,)),
    "InstanceNormalization": lambda site: normalise(site, tuple(range(2, _rank(site)))),
    "GroupNormalization": lambda site: normalise(site, tuple(range(2, _rank(site)))),
    "Softmax": softmax,
}
