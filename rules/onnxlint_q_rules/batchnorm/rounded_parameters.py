"""What one int8 scale leaves of the gains and the variances of a BatchNormalization that is quantised on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxlint_q import Model, Node

Vector = npt.NDArray[np.float64]
# Below so many steps a value is wrong by an eighth and more.
FEW_STEPS = 4.0
_GAIN, _VARIANCE = 1, 4
# Of int8 without a zero point.
_CODES = 127


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """One parameter under one scale.

    Attributes:
        key: of its constant, codes where it is stored in codes.
        what: `gains` or `variances`.
        coded: whether it is stored in codes; else the scale is the one that a quantiser would give it.
        step: of the scale.
        steps: magnitude of each value in steps, rounded.
        counts: channels in which a 0 would do harm.
    """

    key: str
    what: str
    coded: bool
    step: float
    steps: Vector
    counts: npt.NDArray[np.bool_]

    @property
    def zeros(self) -> int:
        """How many values are 0, or become it, that must not."""
        return int(np.count_nonzero((self.steps == 0) & self.counts))

    @property
    def coarse(self) -> int:
        """How many of the values that count have fewer than four steps."""
        return int(np.count_nonzero((self.steps < FEW_STEPS) & self.counts))

    @property
    def counted(self) -> int:
        """How many values count."""
        return int(np.count_nonzero(self.counts))


def rounded_variances(model: Model, node: Node) -> Rounded | None:
    """The variances; None where they are not constant, or have more than one scale.

    A variance of 0 makes the gain `gamma / sqrt(epsilon)`. It does no harm where gamma is 0, nor where half a step is
    less than epsilon. What is 0 in a float file was 0 before any rounding.
    """
    gains, found = model.constant(node.input(_GAIN)), _rounded(model, node, _VARIANCE, "variances")
    if found is None or gains is None or gains.size != found.steps.size:
        return None
    alive = np.abs(np.ravel(gains)) > 0
    harmful = alive & (found.step / 2 > node.float("epsilon", 1e-5))
    return replace(found, counts=np.asarray(harmful if found.coded else harmful & found.counts, np.bool_))


def rounded_gains(model: Model, node: Node) -> Rounded | None:
    """The gains; None where they are not constant, or have more than one scale. A gain of 0 may be meant."""
    return _rounded(model, node, _GAIN, "gains")


def ruined_norms(model: Model) -> tuple[Node, ...]:
    """The BatchNormalizations of a quantised file of which some variance that matters is stored as 0."""
    found = ((node, rounded_variances(model, node)) for node in model.nodes_of("BatchNormalization"))
    return tuple(node for node, one in found if one is not None and one.coded and one.zeros)


def _rounded(model: Model, node: Node, slot: int, what: str) -> Rounded | None:
    stored, maker = model.constant(node.input(slot)), model.producer(node.input(slot))
    if stored is None or not stored.size or stored.dtype.kind != "f":
        return None
    values = np.ravel(stored).astype(np.float64)
    coded = maker is not None and maker.op_type == "DequantizeLinear"
    scale = model.constant(maker.input(1)) if maker is not None and coded else np.abs(values).max() / _CODES
    if scale is None or np.size(scale) != 1 or not (np.isfinite(scale).all() and np.all(scale > 0)):
        return None
    step = float(np.reshape(scale, ()))
    key = maker.input(0) if maker is not None and coded else node.input(slot)
    return Rounded(key, what, coded, step, np.rint(np.abs(values) / step), np.asarray(values != 0, np.bool_))
