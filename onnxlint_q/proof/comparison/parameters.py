"""Constants of operators that are no weight or bias of a product: of normalisations, slopes, recurrent cells.

A BatchNormalization tells by its own mean `m` and variance `v` what it reads, so that with `y = g x + b` and the
quantised file's `g'`, `b'` its constants alone leave behind it

    alone = 10 log10( sum_c (g_c^2 v_c + (g_c m_c + b_c)^2)
                    / sum_c ((g'_c - g_c)^2 v_c + ((g'_c - g_c) m_c + b'_c - b_c)^2) )

over the channels. Of other operators it is the mean noise-to-signal ratio of the rows of the constant, as one gate of a
cell, or one channel, matters as much as another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer, batch_norm
from onnxlint_q.analysis.number_formats import decibel, sqnr_db
from onnxlint_q.analysis.observed.readings import ParameterReading
from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.analysis.pairing.skeleton import Operation
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.tensors import is_real

Matrix = npt.NDArray[np.float64]
# Half of the power of a row is error.
_LOST_DB = 3.0
_PERFECT = 1e-15
_NAMES: Mapping[str, tuple[str, ...]] = {
    "BatchNormalization": ("", "scale", "bias", "mean", "variance"),
    "LayerNormalization": ("", "scale", "bias"),
    "InstanceNormalization": ("", "scale", "bias"),
    "PRelu": ("", "slope"),
}


class ParameterReader:
    """Reads what two paired operations hold beside weight and bias of a product.

    Args:
        reference, quantized: layers of both files, recurrent ones among them.
    """

    def __init__(self, pairing: Pairing, reference: Sequence[FoldedLayer], quantized: Sequence[FoldedLayer]) -> None:
        self.models = pairing.reference.model, pairing.quantized.model
        self.cells = tuple(
            {layer.layer.node: layer.layer for layer in layers if not layer.layer.is_product}
            for layers in (reference, quantized)
        )

    def read(self, ours: Operation, theirs: Operation) -> Iterator[ParameterReading]:
        """The constants that differ, of operators that both have equally often."""
        forms = _by_form(ours), _by_form(theirs)
        for form, nodes in forms[1].items():
            others = forms[0].get(form, [])
            if len(others) == len(nodes):
                for node, other in zip(others, nodes, strict=True):
                    yield from self._of_nodes(node, other)

    def _of_nodes(self, ours: Node, theirs: Node) -> Iterator[ParameterReading]:
        cells = self.cells[0].get(ours), self.cells[1].get(theirs)
        if cells[0] is not None and cells[1] is not None:
            yield from self._of_cells(cells[0], cells[1])
            return
        alone = self._of_batch_norm(ours, theirs)
        names = _NAMES.get(theirs.op_type, ())
        slots = _constants(self.models[0], ours), _constants(self.models[1], theirs)
        for (place, exact), (slot, other) in zip(*slots, strict=False):
            if exact.size > 1 and exact.shape == other.shape and not np.array_equal(exact, other):
                what = names[slot] if slot < len(names) else ""
                keys = theirs.input(slot), ours.input(place)
                yield self._reading(theirs, keys, what, exact.reshape(-1, 1), other.reshape(-1, 1), alone)

    def _of_cells(self, ours: Layer, theirs: Layer) -> Iterator[ParameterReading]:
        for exact, other in zip(ours.operands, theirs.operands, strict=False):
            x, y = (
                layer.by_channel(layer.read_weight(model)).astype(np.float64)
                for layer, model in zip((exact, other), self.models, strict=True)
            )
            if x.shape == y.shape and not np.array_equal(x, y):
                yield self._reading(theirs.node, (other.weight, exact.weight), "weight", x, y, None)

    def _of_batch_norm(self, ours: Node, theirs: Node) -> float | None:
        if ours.op_type != "BatchNormalization":
            return None
        exact, other = batch_norm(self.models[0], ours), batch_norm(self.models[1], theirs)
        if exact is None or other is None or exact.mean.size != other.mean.size:
            return None
        with np.errstate(all="ignore"):
            gain, shift = other.gain - exact.gain, other.shift - exact.shift
            noise = np.square(gain) * exact.variance + np.square(gain * exact.mean + shift)
            signal = np.square(exact.gain) * exact.variance + np.square(exact.gain * exact.mean + exact.shift)
        return decibel(float(signal.sum()), float(noise.sum()))

    def _reading(
        self, node: Node, keys: tuple[str, str], what: str, exact: Matrix, other: Matrix, alone: float | None
    ) -> ParameterReading:
        with np.errstate(all="ignore"):
            power, noise = np.square(exact).sum(axis=1), np.square(exact - other).sum(axis=1)
            live = np.isfinite(power) & np.isfinite(noise) & (power > 0)
            ratios = np.maximum(noise[live] / power[live], _PERFECT)
        own = -10 * float(np.log10(ratios.mean())) if ratios.size else 0.0
        return ParameterReading(
            location=self.models[1].locate(node),
            tensor=keys[0],
            reference=keys[1],
            what=what,
            sqnr_db=sqnr_db(float(power[live].sum()), float(noise[live].sum())),
            rows=len(exact),
            width=exact.shape[1],
            lost=int(np.count_nonzero(ratios > 10 ** (-_LOST_DB / 10))),
            zeros=int(np.count_nonzero((power > 0) & ~other.any(axis=1))),
            alone_db=own if alone is None else alone,
        )


def _by_form(operation: Operation) -> Mapping[str, list[Node]]:
    """The operators of an operation that may have constants of their own, by their float form."""
    found = defaultdict(list)
    for node in operation.nodes:
        if operation.layer is None or node is not operation.node:
            found[node.operator.form].append(node)
    return found


def _constants(model: Model, node: Node) -> list[tuple[int, Matrix]]:
    found = []
    for slot, key in enumerate(node.inputs):
        stored = model.constant(key) if key and model.is_constant(key) else None
        if stored is not None and is_real(stored) and np.issubdtype(stored.dtype, np.floating):
            found.append((slot, stored.astype(np.float64)))
    return found
