"""The weight of a matrix product by the channels that it reads: one row a channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Layer, Model
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product


def has_rows(layer: Layer) -> bool:
    """Whether channels along the last axis of what a layer of the main graph reads are rows of its float weight."""
    product = layer.inputs.product in {Product.GEMM, Product.MATMUL}
    turned = layer.weight_left or layer.node.int("transA", 0)
    return product and not turned and layer.is_float and layer.node.graph == ROOT


def row_axis(layer: Layer) -> int:
    """Axis of the stored weight along which input channels run."""
    if layer.inputs.product is Product.GEMM:
        return 1 if layer.node.int("transB", 0) else 0
    return len(layer.weight_shape) - 2


def rows(model: Model, layer: Layer) -> npt.NDArray[np.float64]:
    """The weight as `[input channels, everything else]`.

    Raises:
        ModelError: it cannot be read.
    """
    weight = np.moveaxis(layer.read_weight(model), row_axis(layer), 0)
    return weight.reshape(weight.shape[0], -1).astype(np.float64)
