"""The experiment: what is quantised, under which scheme. It is the key of everything that is run or foreseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from onnxlint_q.analysis.schemes import PER_TENSOR, Scheme

Keys = frozenset[str] | Literal["all"]
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Experiment:
    """Some weights and some activations quantised, the rest of the network in float; by default the whole scheme.

    Attributes:
        scheme: how.
        weights: keys of the layers whose weights are quantised, or all that the quantiser does under the scheme.
        activations: keys of the tensors that are, or all that the scheme gives a scale.
        excluded: names of nodes that stay in float: their weights, and activations that no other node asks a scale for.
        operand: name of the weight that is, of layers that have several; empty for all of them.
        wide: keys of activations whose codes have 16 bits where those of the scheme have 8, with all that share their
            scale; of a scheme with ranges from calibration, and of no constants.
    """

    scheme: Scheme
    weights: Keys = "all"
    activations: Keys = "all"
    excluded: frozenset[str] = _NONE
    operand: str = ""
    wide: frozenset[str] = _NONE

    @staticmethod
    def on_weight(scheme: Scheme, layer: str, operand: str = "") -> Experiment:
        """Only the weight of one layer; of one with several, all of them or the one with this name."""
        return Experiment(scheme, frozenset({layer}), _NONE, operand=operand)

    @staticmethod
    def on_activation(scheme: Scheme, tensor: str) -> Experiment:
        """Only one activation."""
        return Experiment(scheme, _NONE, frozenset({tensor}))

    @staticmethod
    def on_activations(scheme: Scheme, tensors: Iterable[str]) -> Experiment:
        """Only these activations."""
        return Experiment(scheme, _NONE, frozenset(tensors))

    @staticmethod
    def on_layer(scheme: Scheme, layer: str, tensor: str) -> Experiment:
        """The weight of one layer, and the tensor that holds its result."""
        return Experiment(scheme, frozenset({layer}), frozenset({tensor}))

    @property
    def essence(self) -> Experiment:
        """The experiment without what it does not use of its scheme: those with the same essence are the same run."""
        weights, activations = self.scheme if self.weights else _FLOAT, self.scheme.activations
        activations = activations if self.activations else None
        # Named weights are covered; which are, and where activations are rounded, is the quantiser's.
        used = self.scheme if activations or self.weights == "all" else _FLOAT
        return Experiment(
            Scheme(
                "",
                weights.sharing,
                weights.weights,
                activations,
                used.quantizer,
                weights.convolutions,
                used.layers_only,
            ),
            self.weights,
            self.activations if activations else _NONE,
            self.excluded,
            self.operand,
            self.wide if activations else _NONE,
        )


_FLOAT = Scheme("", PER_TENSOR, activations=None)
UNCHANGED = Experiment(_FLOAT, _NONE, _NONE)
"""Nothing is quantised."""


@dataclass(frozen=True, slots=True)
class LayerSqnr:
    """One layer under one scheme: SQNR at the model's output in dB, None where it was not determined.

    Attributes:
        weight_sqnr_db: only this layer's weight is quantised.
        sqnr_db: its weight and its output activation are.
        activation_sqnr_db: only its output activation is.
        weight_share, activation_share: fraction of the noise power at the output, everything quantised, that comes
            from its weight and from rounding its output; None where it was not determined.
        uncertainty_db: two thirds of such figures lie within plus or minus this of a measured one; None for a run's.
        operands: `weight_sqnr_db` of each weight alone, by its name, where the layer has several.
    """

    weight_sqnr_db: float | None
    sqnr_db: float | None = None
    weight_share: float | None = None
    activation_share: float | None = None
    activation_sqnr_db: float | None = None
    uncertainty_db: float | None = None
    operands: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Fraction of the noise power that comes from its weight and its output activation, as far as determined."""
        return (self.weight_share or 0.0) + (self.activation_share or 0.0)
