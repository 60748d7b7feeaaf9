"""What quantisation will cost at the model's output, from the file alone: nothing is executed.

A population of samples is propagated through the graph once, and one adjoint sweep says what an error in any tensor
costs at the output (modules `forward` and `backward`); the errors themselves, `Q(w) - w` of every folded weight, are
known.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxlint_q.analysis.experiment import LayerSqnr
from onnxlint_q.analysis.number_formats import (
    OVERFLOWN_DB,
    activation_step,
    decibel,
)
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Subject
from onnxlint_q.forecast.ends import End, by_end, pooled
from onnxlint_q.forecast.expected.level import Level, Traits, level
from onnxlint_q.forecast.expected.level_table import FORECAST
from onnxlint_q.forecast.expected.traits import TOGETHER, Place, with_shares
from onnxlint_q.forecast.network import NoiseModel
from onnxlint_q.forecast.noise import saturated
from onnxlint_q.forecast.rounding.activations import ActivationNoise, activation_noise
from onnxlint_q.forecast.weights import AtEnds, Noise, together, weights_noise

# Two thirds of the forecasts of one layer's weight alone lie within this, each network counting the same: 760 layers of
# 17 networks, per tensor. Learnt on 16 of them it holds for 66 % of the layers of the other: for 38 to 100 % of each of
# the twelve that read images, whose layers together would need 6.3, but for none of two that read text.
LAYER_UNCERTAINTY_DB = 9.0
# Beyond any float32 signal; figures that far out say the same.
_FAR_DB = 1000.0


@dataclass(frozen=True, slots=True)
class TensorNoise:
    """What one tensor that gets a scale does, alone.

    Attributes:
        tensor: for a weight the key of its layer, else the activation.
        kind: which of the two it is.
        share: fraction of the noise power at the output, everything quantised: at the one that loses most.
        sqnr_db: there, bounded; None where nothing is lost.
    """

    tensor: str
    kind: Subject
    share: float
    sqnr_db: float | None


@dataclass(frozen=True, slots=True)
class OutputForecast:
    """What is left of one output.

    Attributes:
        name: of the output, or of a part as it was called before it was joined.
        sqnr_db: raw, as in `Forecast`; None where nothing is lost.
        parts: of an output that joins several things, each by itself.
    """

    name: str
    sqnr_db: float | None
    parts: tuple[OutputForecast, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """One scheme, everything quantised.

    Attributes:
        output_sqnr_db: predicted SQNR, noise over signal averaged over the outputs, raw: `level` says what to expect of
            a measurement. None where nothing can be said.
        layers: by layer key, without figures of activations alone. They are linear, so they rank well and may lie far
            below what an output can lose; `told` says what can be told of one.
        unknown: operators it had to pass through without knowing them, with the first reason; it is weaker for each.
        failures: places where a rule of the forecast failed, in words: faults of this program, not of the file.
        rest_share: fraction of the noise power from activations that are no layer's output: the inputs of the model,
            sums, gates. With the shares of the layers it adds up to 1, where there is any noise.
        traits: what else the level hangs on, by place.
        varying: share of the outputs' signal power that is variance.
        open_branches: labels of each If of which nothing decides what it does, so that its first branch was taken.
        ruined: constants whose scale is no number, so that no output is one.
        undefined: tensors whose range is no number, because a parameter that decides it is NaN.
        ran_away: some figure was beyond what a run can give, so that none meant anything, and there is none.
        tensors: everything that gets a scale and of which something can be said: weights, then activations, each in
            data order.
        outputs: by name, those of which something can be said.
    """

    output_sqnr_db: float | None
    layers: Mapping[str, LayerSqnr] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    rest_share: float = 0.0
    traits: Mapping[Place, Traits] = field(default_factory=dict)
    varying: float = 1.0
    open_branches: tuple[str, ...] = ()
    ruined: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    ran_away: bool = False
    tensors: tuple[TensorNoise, ...] = ()
    outputs: Mapping[str, OutputForecast] = field(default_factory=dict)

    def level(self, output: str = "", part: str = "") -> Level | None:
        """What a run on data is expected to measure: at an output, at a part of one, or of all outputs pooled.

        None where nothing can be said, or nothing is lost.
        """
        raw_db = self._left(output, part)
        if raw_db is None or not np.isfinite(raw_db) or raw_db < OVERFLOWN_DB:
            return None
        return level(raw_db, self.traits.get((output, part), Traits()), FORECAST)

    @property
    def levels(self) -> tuple[Level, ...]:
        """What a run is expected to measure at each output, or its parts; of all pooled if they are not told apart."""
        places = [(one.name, part.name) for one in self.outputs.values() for part in one.parts]
        places += [(one.name, "") for one in self.outputs.values() if not one.parts]
        known = (self.level(*place) for place in places or (TOGETHER,))
        return tuple(level for level in known if level is not None)

    def _left(self, output: str, part: str) -> float | None:
        if not output:
            return self.output_sqnr_db
        known = self.outputs.get(output)
        if known is not None and part:
            known = next((one for one in known.parts if one.name == part), None)
        return None if known is None else known.sqnr_db

    def told(self, layer: str) -> LayerSqnr | None:
        """What is told of one layer: its figures bounded, and how far they are usually off; None if nothing is."""
        known = self.layers.get(layer)
        if known is None:
            return None
        return replace(
            known,
            weight_sqnr_db=self.bounded(known.weight_sqnr_db),
            sqnr_db=self.bounded(known.sqnr_db),
            uncertainty_db=LAYER_UNCERTAINTY_DB,
            operands={name: self.bounded(value) for name, value in known.operands.items()},
        )

    def bounded(self, sqnr_db: float | None) -> float | None:
        """A linear figure of a layer on the scale of `output_sqnr_db`, which no part of the network lies below."""
        if sqnr_db is None:
            return None
        # Weights may be as large as floats get; a power that overflows would raise.
        noise = float(10 ** (-np.clip(sqnr_db, -_FAR_DB, _FAR_DB) / 10))
        return decibel(1.0, saturated(noise, self.varying))


def forecast(
    network: NoiseModel,
    layers: Sequence[LayerFacts],
    schemes: Sequence[Scheme],
    weights: Mapping[str, Mapping[str, Noise]] | None = None,
) -> Mapping[str, Forecast]:
    """Forecast every scheme; a layer that does not reach an output, or is not reached by an input, gets None.

    What the quantiser leaves in float has figures of its weight alone, and no part in the noise of the scheme.

    Args:
        network: as the file tells it.
        layers: of the network.
        schemes: under which it is quantised.
        weights: what `weights_noise` gives, where it is known already.
    """
    weights = weights_noise(network, layers, schemes) if weights is None else weights
    folded = [facts.folded for facts in layers]
    activations: dict[Hashable, ActivationNoise] = {}
    for scheme in schemes:
        if (kind := scheme.treatment(Subject.ACTIVATION)) not in activations:
            with np.errstate(over="ignore", invalid="ignore"):
                activations[kind] = activation_noise(
                    network.model, folded, scheme, network.propagation, network.ranges, network.costs, network.floors
                )
    return {
        scheme.name: _forecast(network, layers, scheme, weights, activations[scheme.treatment(Subject.ACTIVATION)])
        for scheme in schemes
    }


def _forecast(
    network: NoiseModel,
    layers: Sequence[LayerFacts],
    scheme: Scheme,
    weights: Mapping[str, Mapping[str, Noise]],
    activations: ActivationNoise,
) -> Forecast:
    propagation, ends = network.propagation, network.ends
    own = {facts.output: weights[facts.output].get(scheme.name) for facts in layers}
    written = {facts.output for facts in layers if scheme.quantises(facts.folded.layer)}
    if activations.ruined:
        return Forecast(None, traits=network.traits, ruined=activations.ruined)
    if activations.undefined:
        return Forecast(None, traits=network.traits, undefined=activations.undefined)
    alone = {key: together(made) for key, made in own.items() if made is not None}
    noise = {(Subject.WEIGHT, key): made for key, made in alone.items() if key in written}
    noise |= {(Subject.ACTIVATION, key): by_end(ends, powers) for key, powers in activations.by_tensor.items()}
    powers = [pooled(ends, made) for made in noise.values()]
    total = math.fsum(powers) if all(map(np.isfinite, powers)) else np.inf
    scale = 1 / total if 0 < total < np.inf else 0.0
    rows: dict[str, LayerSqnr] = {}
    for key, operands in own.items():
        if operands is None:
            rows[key] = LayerSqnr(None, None, 0.0, 0.0)
            continue
        weight = pooled(ends, alone[key])
        rounding = pooled(ends, by_end(ends, activations.by_layer[key])) if key in activations.by_layer else 0.0
        rows[key] = LayerSqnr(
            decibel(1.0, weight),
            decibel(1.0, weight + rounding),
            weight * scale * (key in written),
            rounding * scale,
            operands={name: decibel(1.0, pooled(ends, one)) for name, one in operands.items() if name},
        )
    figures = [figure for row in rows.values() for figure in (row.weight_sqnr_db, row.sqnr_db) if figure is not None]
    if propagation.overflown or min(figures, default=0.0) < OVERFLOWN_DB:
        return Forecast(
            None, unknown=propagation.unknown, failures=network.failures, traits=network.traits, ran_away=True
        )
    told = sum(row.share for row in rows.values())
    rest = max(1 - told, 0.0) if scale else 0.0
    # With most weights out of reach, as behind unknown inputs, the sum says nothing about what is quantised.
    counted = written or own.keys()
    enough = 2 * sum(own[key] is not None for key in counted) > len(counted)
    sums = (sum(float(made[at]) for made in noise.values()) for at in range(len(ends)))
    left = np.array([saturated(each, end.varying) for each, end in zip(sums, ends, strict=True)])
    left = np.maximum(left, [float(_falls_on_zero(network, end, scheme)) for end in ends])
    outputs = _outputs(network, left) if enough else {}
    return Forecast(
        output_sqnr_db=decibel(1.0, pooled(ends, left)) if enough else None,
        layers=rows,
        unknown=propagation.unknown,
        failures=network.failures,
        rest_share=rest,
        traits=with_shares(network.traits, ends, noise),
        varying=network.varying,
        open_branches=propagation.open_branches,
        # Behind a weight near the largest float, what a tensor costs may be no number, and no part of a sum.
        tensors=_tensors(noise, ends, int(left.argmax())) if enough and ends and np.isfinite(total) else (),
        outputs=outputs,
    )


def _falls_on_zero(network: NoiseModel, end: End, scheme: Scheme) -> bool:
    """Whether a part with values from 0 to 1 is joined to values so large that one step is longer: nothing is left."""
    number, limits = scheme.activations, network.ranges.get(end.output)
    if end.part is None or not end.part.held.fraction or number is None or number.is_float or limits is None:
        return False
    return activation_step(*limits, number) > 1


def _tensors(noise: Mapping[tuple[Subject, str], AtEnds], ends: Sequence[End], worst: int) -> tuple[TensorNoise, ...]:
    """What each tensor does at the end that loses most."""
    here = {key: float(made[worst]) for key, made in noise.items()}
    total = math.fsum(here.values())
    return tuple(
        TensorNoise(key, kind, each / total if total else 0.0, decibel(1.0, saturated(each, ends[worst].varying)))
        for (kind, key), each in here.items()
    )


def _outputs(network: NoiseModel, left: AtEnds) -> dict[str, OutputForecast]:
    """What is left of each output, by the noise over signal at the ends."""
    found: dict[str, OutputForecast] = {}
    for output in network.outputs:
        here = [(end, float(noise)) for end, noise in zip(network.ends, left, strict=True) if end.output == output.name]
        if not here:
            continue
        whole = sum(end.weight * noise for end, noise in here) / sum(end.weight for end, _ in here)
        parts = [(end.part.held.name, noise) for end, noise in here if end.part is not None]
        found[output.name] = OutputForecast(
            output.name,
            decibel(1.0, whole),
            tuple(OutputForecast(name, decibel(1.0, noise)) for name, noise in parts),
        )
    return found
