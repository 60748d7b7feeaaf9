"""Weights rounded to other codes than the nearest ones: each code moved by some steps, and the float value with it.

Which steps make the outputs better is found on samples in `execute/correction`. The float model changes with them, so
they belong to the recipe that they were found for, as shifted biases do, and are no rewrite of the float model. They
are kept in the recipe as text: bytes of a signed step each, packed with zlib, in base64.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.errors import UsageError
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product
from onnxlint_q.rewrite import fold_batch_norms
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rounding.grid import WeightGrid, weight_grid

Steps = Mapping[str, npt.NDArray[np.int8]]
"""By layer, how many steps each code is from the nearest one, as `[output channels, taps]`."""
_PRODUCTS = frozenset({Product.CONVOLUTION, Product.GEMM, Product.MATMUL})


def roundable(measured: Measured, scheme: Scheme) -> Iterator[FoldedLayer]:
    """Layers whose weights can be moved to other codes of a scheme, in data order."""
    model = measured.model
    for entry in measured.layers:
        layer, own = entry.folded.layer, scheme.of_layer(entry.folded.layer)
        fits = layer.inputs.product in _PRODUCTS and layer.is_float and not layer.weight_left
        fits = fits and layer.node.graph == ROOT and not own.weights.is_float and len(layer.weight_shape) > 1
        # A copy of a weight that is shared would make the file larger.
        fits = fits and len(model.consumers(layer.weight)) == 1 and not model.is_constant(layer.input)
        stored = model.constants[layer.weight] if fits else None
        if stored is not None and stored.dtype == np.float32 and np.isfinite(stored).all():
            yield entry.folded


def grid_of(measured: Measured, scheme: Scheme, folded: FoldedLayer) -> WeightGrid:
    """The grid of a layer's folded weight under a scheme."""
    own = scheme.of_layer(folded.layer)
    return weight_grid(folded.matrix(measured.model), own.weights, own.sharing)


def rounded(measured: Measured, scheme: Scheme, steps: Steps) -> Model:
    """A copy of the model in which the weights of these layers lie on the grid of the scheme; the others stay.

    Raises:
        UsageError: the model has no such layer, or one with another weight.
    """
    norms = [one for one in fold_batch_norms.find(measured) if isinstance(one, Candidate) and one.tensor in steps]
    if norms:
        measured = measure(fold_batch_norms.apply(measured.model, norms), measured.schemes)
    layers = {folded.output: folded for folded in roundable(measured, scheme)}
    edit = Edit(measured.model)
    for name, moved in steps.items():
        folded = layers.get(name)
        matrix = folded.matrix(measured.model) if folded is not None else None
        if folded is None or matrix is None or matrix.shape != moved.shape:
            raise UsageError(f"no layer {name[:80]!r} with {moved.size} weights: the rounding is that of another model")
        grid = grid_of(measured, scheme, folded)
        values = grid.values(grid.nearest(matrix) + moved, matrix)
        edit.replace_constant(folded.layer.output, folded.layer.weight_slot, folded.layer.as_stored(values), "rounded")
    return edit.done()


def packed(steps: Steps) -> Mapping[str, str]:
    """The steps as text, by layer."""
    return {name: base64.b64encode(zlib.compress(moved.tobytes(), 9)).decode() for name, moved in steps.items()}


def unpacked(measured: Measured, texts: Mapping[str, str]) -> Steps:
    """The steps of a recipe for this model.

    Raises:
        UsageError: they do not fit it.
    """
    found: dict[str, npt.NDArray[np.int8]] = {}
    for name, text in texts.items():
        layer = measured.layer_by_output.get(name)
        shape = (
            layer.folded.layer.by_channel(np.empty(layer.folded.layer.weight_shape, bool)).shape if layer else (0, 0)
        )
        size = shape[0] * shape[1]
        try:
            held = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
        except (ValueError, zlib.error) as error:
            raise UsageError(f"the rounding of layer {name[:80]!r} in the recipe cannot be read: {error}") from error
        if not size or len(held) != size:
            raise UsageError(f"no layer {name[:80]!r} with {len(held)} weights: the rounding is that of another model")
        found[name] = np.frombuffer(held, np.int8).reshape(shape)
    return found
