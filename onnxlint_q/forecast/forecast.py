"""What quantisation will cost at the model's output, from the file alone: nothing is executed.

A population of samples is propagated through the graph once, and one adjoint sweep says what an error in any tensor
costs at the output (module `sweep`); the errors themselves, `Q(w) - w` of every folded weight, are known.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.causes.masks import floors
from onnxlint_q.analysis.experiment import LayerSqnr
from onnxlint_q.analysis.folding import FoldedLayer, fold_batch_norms
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import (
    OVERFLOWN_DB,
    NumberFormat,
    Sharing,
    activation_step,
    decibel,
    weight_round_trip,
)
from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Subject
from onnxlint_q.forecast.ends import End, by_end, ends_in, find_ends, pooled
from onnxlint_q.forecast.expected.level import Level, Traits, level
from onnxlint_q.forecast.expected.level_table import FORECAST
from onnxlint_q.forecast.expected.traits import TOGETHER, Place, traits, with_shares
from onnxlint_q.forecast.fused.expansion import expanded
from onnxlint_q.forecast.noise import saturated, weight_noise
from onnxlint_q.forecast.operators.control.branches import ELSE
from onnxlint_q.forecast.ranges import (
    ActivationNoise,
    ChannelRanges,
    Ranges,
    activation_noise,
    channel_ranges,
    expected_limits,
    value_ranges,
)
from onnxlint_q.forecast.sweep import Propagation, output_costs, propagate
from onnxlint_q.forecast.tokens import holds_ids, positions_for
from onnxlint_q.forecast.transfer import ByImage, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Layer, Model, Value, find_layers
from onnxlint_q.graph.loading.build import declared
from onnxlint_q.graph.settled import Settled, is_known

# Two thirds of the forecasts of one layer's weight alone lie within this, each network counting the same: 760 layers of
# 17 networks, per tensor. Learnt on 16 of them it holds for 66 % of the layers of the other: for 38 to 100 % of each of
# the twelve that read images, whose layers together would need 6.3, but for none of two that read text.
LAYER_UNCERTAINTY_DB = 9.0
AtEnds = npt.NDArray[np.float64]
"""Noise over signal at each end."""
Noise = Mapping[str, AtEnds]
"""The same for each weight of a layer, by the name of the weight; an only one has none."""
Matrix = npt.NDArray[np.float32]
Rounding = tuple[NumberFormat, Sharing]
# Elements of the errors of a weight that are held at a time: 64 MB.
_ERRORS = 1 << 24
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


@dataclass(frozen=True, slots=True, eq=False)
class NoiseModel:
    """What an error anywhere in a network costs at its output, known once whatever the scheme.

    It holds samples of every tensor: drop it after use.

    Attributes:
        model: the network.
        outputs: what they hold.
        traits: what the file tells of them, by place.
        propagation: samples of every tensor.
        ends: where costs are counted.
        costs: what an error in a tensor costs there, by tensor key.
        ranges: what calibration is expected to see of each activation that is rounded, masks left out.
        channels: the same of each of its channels, where the file tells them apart.
        floors: what masks add to the lower end of some of them.
        failures: as in `Forecast`.
        products: of a fused layer, the tensor where an error of its weight shows, by layer key.
    """

    model: Model
    outputs: tuple[Output, ...]
    traits: Mapping[Place, Traits]
    propagation: Propagation
    ends: tuple[End, ...]
    costs: Mapping[str, OutputCost]
    ranges: Ranges
    channels: ChannelRanges = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    products: Mapping[str, str] = field(default_factory=dict)

    @property
    def varying(self) -> float:
        """Share of the outputs' signal power that is variance, averaged over them."""
        return sum(end.weight * end.varying for end in self.ends) if self.ends else 1.0

    def masked_at(self, floors: Mapping[str, float]) -> NoiseModel:
        """The network with other masks: they let the same through, so what an error costs stays what it is."""
        return replace(self, floors=floors)

    def weight_sqnr_db(self, layer: LayerFacts, scheme: Scheme) -> float | None:
        """SQNR at the output, dB and bounded, if only the weight of this layer is quantised.

        None where nothing can be said, or nothing is lost.

        The layer may differ from the network's own where the difference leaves the float network what it is.
        """
        noise = weights_noise(self, (layer,), (scheme,))[layer.output].get(scheme.name)
        if noise is None or self.propagation.overflown:
            return None
        return decibel(1.0, saturated(pooled(self.ends, _together(noise)), self.varying))


def noise_model(measured: Measured) -> NoiseModel:
    """Propagate samples forward and costs back through the float network."""
    written = expanded(measured.model)
    positions = positions_for(written.model, measured.folded)
    model, inner = _sized(written.model, positions), measured.folded
    if written.model is not measured.model:
        inner = fold_batch_norms(model, list(find_layers(model))).layers
    propagation = propagate(model, inner, masks=measured.masks, positions=positions)
    ends = find_ends(measured.outputs, propagation.samples)
    costs, failures = output_costs(model, propagation, ends)
    if propagation.open_branches:
        # What the branches that are taken do not hold costs what it does if the others are.
        other = propagate(model, inner, either=ELSE, masks=measured.masks, positions=positions)
        others, _ = output_costs(model, other, ends_in(ends, propagation.samples, other.samples))
        costs = {**others, **costs}
    limits = expected_limits(model, measured.placements, propagation)
    return NoiseModel(
        model,
        measured.outputs,
        traits(measured, propagation),
        propagation,
        ends,
        costs,
        ranges=value_ranges(measured.placements, limits),
        channels=channel_ranges(model, measured.placements, limits),
        floors=floors(measured.masks),
        failures=(*propagation.failures, *failures),
        products=written.products,
    )


def _sized(model: Model, positions: int) -> Model:
    """The network where inputs are as long as they are taken to be, and so is what the graph fixes.

    Sequences of tokens of any length have as many as are represented.
    """
    tokens = any(holds_ids(model, value) for value in model.inputs)
    entering = {
        value.name: _of_positions(value, positions) if tokens and not value.fixed else value.taken
        for value in model.inputs
        if value.taken is not None
    }
    if not entering:
        return model
    sized = declared(model, entering)
    if all(None not in (known.shape or ()) for known in sized.types.values()):
        return sized
    settled = Settled(sized, sized.shape)
    for node in sized.nodes:
        settled.add(node)
    return declared(model, entering, {key: value for key, value in settled.values.items() if is_known(value)})


def _of_positions(value: Value, positions: int) -> tuple[int, ...]:
    """The shape where every open axis but that of the batch has as many places as an image has positions."""
    taken, shape = value.taken or (), value.type.shape or ()
    return tuple(positions if axis and shape[axis] is None else length for axis, length in enumerate(taken))


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
    alone = {key: _together(made) for key, made in own.items() if made is not None}
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
        tensors=_tensors(noise, ends, int(left.argmax())) if enough and ends else (),
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


def weights_noise(
    network: NoiseModel, layers: Sequence[LayerFacts], schemes: Sequence[Scheme]
) -> Mapping[str, Mapping[str, Noise]]:
    """Noise over signal at the ends from rounding the weights of each layer alone.

    By layer key and scheme; empty for a layer of which nothing can be said. A weight that several layers share is
    rounded once, and so is one that several schemes round alike.
    """
    sharing: dict[tuple[tuple[Rounding | None, ...], Hashable], list[LayerFacts]] = {}
    for facts in layers:
        if _is_told(network, facts):
            kinds = tuple(_rounding(scheme, facts.folded.layer) for scheme in schemes)
            weights = tuple(part.made_of(network.model) for part in facts.folded.operands)
            sharing.setdefault((kinds, weights), []).append(facts)
    found: dict[str, Mapping[str, Noise]] = {facts.output: {} for facts in layers}
    for (kinds, _), together in sharing.items():
        names = [scheme.name for scheme in schemes]
        found |= _shared_noise(network, together, dict(zip(names, kinds, strict=True)))
    return found


def _is_told(network: NoiseModel, facts: LayerFacts) -> bool:
    """Whether samples reach the layer, it reaches an output, and its weights are numbers."""
    results = network.costs.keys() & _results(network, facts.folded)
    reached = _source(facts.folded) in network.propagation.samples and results
    return bool(reached) and not any(part.weight.non_finite for part in facts.operands)


def _shared_noise(
    network: NoiseModel, layers: Sequence[LayerFacts], kinds: Mapping[str, Rounding | None]
) -> Mapping[str, Mapping[str, Noise]]:
    """`weights_noise` of layers that share their weights, which each scheme rounds so."""
    first = layers[0].folded
    matrices = {part.layer.operand: part.matrix(network.model) for part in first.operands}
    nothing: Noise = dict.fromkeys(matrices, np.zeros(len(network.ends)))
    noise: dict[str, dict[Rounding | None, Noise]] = {facts.output: {None: nothing} for facts in layers}
    distinct = [kind for kind in dict.fromkeys(kinds.values()) if kind is not None]
    at_once = max(_ERRORS // max(matrix.size for matrix in matrices.values()), 1)
    for start in range(0, len(distinct), at_once):
        rounded = distinct[start : start + at_once]
        errors = [
            {
                name: weight_round_trip(matrix, *kind, first.layer.scale_sharing) - matrix
                for name, matrix in matrices.items()
            }
            for kind in rounded
        ]
        for facts in layers:
            noise[facts.output] |= zip(rounded, _noise(network, facts.folded, errors), strict=False)
    return {
        key: {name: known[kind] for name, kind in kinds.items()} if known.keys() >= set(kinds.values()) else {}
        for key, known in noise.items()
    }


def _rounding(scheme: Scheme, layer: Layer) -> Rounding | None:
    """How a scheme rounds the weight of a layer; None where it says nothing of it."""
    own = scheme.of_layer(layer)
    return (own.weights, own.sharing) if scheme.covers(layer) else None


def _noise(network: NoiseModel, folded: FoldedLayer, errors: Sequence[Mapping[str, Matrix]]) -> list[Noise]:
    """What each error of the weights of a layer makes; nothing where that cannot be said of all of them."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found: list[Noise] = [
                {name: by_end(network.ends, power) for name, power in powers.items()}
                for powers in _powers(network, folded, errors)
            ]
    except UnmodelledError:
        return []
    # The squares of weights may overflow.
    return found if all(np.isfinite(each).all() for noise in found for each in noise.values()) else []


def _powers(
    network: NoiseModel, folded: FoldedLayer, errors: Sequence[Mapping[str, Matrix]]
) -> Sequence[Mapping[str, ByImage]]:
    """Output noise by image for each error of the weights of a layer."""
    propagation, costs = network.propagation, network.costs
    if folded.layer.is_product:
        (result,), samples = _results(network, folded), propagation.samples[_source(folded)]
        powers = weight_noise(network.model, folded, [error[""] for error in errors], samples, costs[result])
        return [{"": power} for power in powers]
    reading = propagation.readings.get(folded.layer.output)
    if reading is None:
        raise UnmodelledError("it was passed through")
    behind = [costs.get(key) for key in folded.layer.node.outputs]
    return [reading.weight_noise(error, behind) for error in errors]


def _source(folded: FoldedLayer) -> str:
    return folded.before.node.input(0) if folded.before is not None else folded.layer.input


def _results(network: NoiseModel, folded: FoldedLayer) -> tuple[str, ...]:
    """Where an error of the layer's weights arrives first."""
    if folded.layer.is_product:
        return (network.products.get(folded.output, folded.output),)
    return tuple(filter(None, folded.layer.node.outputs))


def _together(noise: Noise) -> AtEnds:
    """Of all weights of a layer."""
    return np.asarray(sum(noise.values()), np.float64)
