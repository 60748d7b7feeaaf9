"""Everything known about one model: what a rule sees, and all that it sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

from onnxlint_q.analysis.causes.masks import floors
from onnxlint_q.analysis.half.halved import Halved
from onnxlint_q.analysis.half.tensors import computes_in_half, half_tensors
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.compared import Compared
from onnxlint_q.analysis.observed.costs import SchemeCosts
from onnxlint_q.analysis.observed.data_summary import DataSummary
from onnxlint_q.analysis.observed.deployed import Deployed
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations, TensorObservation
from onnxlint_q.analysis.observed.unprepared import Unprepared
from onnxlint_q.analysis.pairing.structure import Structure
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.forecast.forecast import Forecast, forecast
from onnxlint_q.forecast.network import NoiseModel, noise_model
from onnxlint_q.forecast.weights import Noise, weight_sqnr_db, weights_noise
from onnxlint_q.graph import Model
from onnxlint_q.rewrite import mask_values
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.constants.constant_channels import ConstantChannels, match, mended_layer
from onnxlint_q.rewrite.mask_values import MaskValue


@dataclass(frozen=True, slots=True, eq=False)
class Cured:
    """A layer that can be mended, and what would be gained.

    Attributes:
        candidate: the rewrite, of constant channels.
        layer: the layer after it.
        forecast_db: forecast SQNR at the model's output if only the mended weight is quantised under int8-per-tensor;
            None where nothing can be forecast.
    """

    candidate: ConstantChannels
    layer: LayerFacts
    forecast_db: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Unmasked:
    """A float model whose masks stand for minus infinity, and what becomes of it with smaller ones.

    Attributes:
        candidates: masks that may have another value, by constant.
        refused: why the others may not, by constant.
        forecasts: of the model with all candidates applied, by name of the calibrated schemes.
    """

    candidates: Mapping[str, MaskValue]
    refused: Mapping[str, str]
    forecasts: Mapping[str, Forecast]


@dataclass(frozen=True, eq=False)
class Facts(Measured):
    """A measured model with what was forecast, what can be mended, and what a run saw.

    Attributes:
        forecasts: by scheme name, for a float model; empty for a quantised one.
        foreseen: the smallest and largest value that calibration is expected to see of each channel of an activation,
            by tensor key, where the file tells its channels apart.
        expected: the smallest and largest value that it is expected to see of each activation that is rounded.
        cures: layers that can be cured without changing what the float model computes, by their key.
        unmasked: what becomes of it with smaller masks; None where it has none.
        data: what the calibration data looks like; None without `--calibrate`.
        observations: what a run on calibration data saw; None without `--calibrate` or where it could not run.
        unprepared: what the model leaves at its output where it is quantised without `quant_pre_process`; empty where
            that was not measured, as it is where the preparation changes nothing.
        comparison: what running the file beside its float original showed; None outside of `compare`.
        costs: what each tensor alone costs the output, by name of the scheme, under those that a run on calibration
            data showed the model not to survive.
        deployed: how ONNX Runtime runs a quantised file with its default options; None where it was not run.
        targets: names of what the file has to run on.
        half_asked: whether all its float32 tensors are to be float16.
        halved: what a run in simulated float16 showed; None without one.
    """

    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    foreseen: Mapping[str, ChannelObservation] = field(default_factory=dict)
    expected: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cures: Mapping[str, Cured] = field(default_factory=dict)
    unmasked: Unmasked | None = None
    data: DataSummary | None = None
    observations: Observations | None = None
    unprepared: tuple[Unprepared, ...] = ()
    comparison: Compared | None = None
    costs: Mapping[str, SchemeCosts] = field(default_factory=dict)
    deployed: Deployed | None = None
    targets: tuple[str, ...] = ()
    half_asked: bool = False
    halved: Halved | None = None

    @cached_property
    def structure(self) -> Structure:
        """Identities of places that do not depend on names."""
        return Structure(self.model)

    @cached_property
    def in_half(self) -> bool:
        """Whether it is a float network with tensors that are float16, or are to be."""
        return self.is_float and (self.half_asked or computes_in_half(self.model))

    @cached_property
    def half_tensors(self) -> frozenset[str]:
        """Keys of those, constants included."""
        return half_tensors(self.model, whole=self.half_asked) if self.in_half else frozenset()

    def stored(self, layer: LayerFacts) -> TensorObservation | None:
        """What a run saw of the tensor that holds a layer's result; None without a run, or if it gets no scale."""
        return self.observations.tensors.get(self.stored_tensor(layer)) if self.observations is not None else None

    def channels_of(self, tensor: str) -> ChannelObservation | None:
        """The smallest and largest value of each channel of an activation: seen by a run, else foreseen."""
        if self.observations is None:
            return self.foreseen.get(tensor)
        seen = self.observations.tensors.get(tensor)
        return seen.channels if seen is not None else None

    def range_of(self, tensor: str) -> tuple[float, float] | None:
        """Smallest and largest value of an activation: seen by a run, else expected of one; None if neither."""
        if self.observations is None:
            return self.expected.get(tensor)
        seen = self.observations.tensors.get(tensor)
        return (seen.low, seen.high) if seen is not None else None

    def inspected(self, data: DataSummary) -> Facts:
        """The same facts with what the calibration data looks like."""
        return replace(self, data=data)

    def observed(self, observations: Observations) -> Facts:
        """The same facts with what a run saw."""
        return replace(self, observations=observations)

    def costed(self, costs: Mapping[str, SchemeCosts]) -> Facts:
        """The same facts with what each tensor alone costs the output."""
        return replace(self, costs=costs)

    def quantised_unprepared(self, unprepared: tuple[Unprepared, ...]) -> Facts:
        """The same facts with what quantising the model as it is showed."""
        return replace(self, unprepared=unprepared)

    def run_as_deployed(self, deployed: Deployed) -> Facts:
        """The same facts with how ONNX Runtime runs the file with its default options."""
        return replace(self, deployed=deployed)

    def meant_for(self, targets: tuple[str, ...]) -> Facts:
        """The same facts with what the file has to run on."""
        return replace(self, targets=targets)

    def as_half(self, *, asked: bool) -> Facts:
        """The same facts, and whether all float32 tensors are to be float16."""
        return replace(self, half_asked=asked)

    def run_as_half(self, halved: Halved) -> Facts:
        """The same facts with what a run in simulated float16 showed."""
        return replace(self, halved=halved)

    def compared(self, comparison: Compared) -> Facts:
        """The same facts with what running the file beside its float original showed."""
        return replace(self, comparison=comparison)


def foresee(measured: Measured) -> Facts:
    """A measured model with its forecast and its cures; nothing is executed."""
    network = noise_model(measured) if measured.is_float else None
    weights = weights_noise(network, measured.layers, measured.schemes) if network else {}
    return Facts(
        **{known.name: getattr(measured, known.name) for known in fields(measured)},
        forecasts=forecast(network, measured.layers, measured.schemes, weights) if network else {},
        foreseen=network.channels if network else {},
        expected=network.ranges if network else {},
        cures={cured.candidate.tensor: cured for cured in _cures(measured, network)} if network else {},
        unmasked=_unmasked(measured, network, weights)
        if network and any(mask.is_large for mask in measured.masks)
        else None,
    )


def _unmasked(measured: Measured, network: NoiseModel, weights: Mapping[str, Mapping[str, Noise]]) -> Unmasked:
    """With the usual value: how far scores spread is measured, not foreseen."""
    found = tuple(mask_values.match(measured))
    candidates = {one.tensor: one for one in found if not isinstance(one, Refusal)}
    lowest = floors(measured.masks, {constant: -one.value for constant, one in candidates.items()})
    return Unmasked(
        candidates,
        {one.tensor: one.reason for one in found if isinstance(one, Refusal)},
        forecast(network.masked_at(lowest), measured.layers, measured.calibrated_schemes, weights)
        if candidates
        else {},
    )


def _cures(measured: Measured, network: NoiseModel) -> Iterator[Cured]:
    """The float network stays the same, so what its errors cost does too; only the weight is new."""
    for found in match(measured):
        if not isinstance(found, Refusal):
            layer = mended_layer(measured, found)
            yield Cured(found, layer, weight_sqnr_db(network, layer, INT8_PER_TENSOR))


def facts_of(model: Model, schemes: Sequence[Scheme] | None = None) -> Facts:
    """All that the file of a model tells for these schemes, by default those of its kind of network.

    Raises:
        ModelError: a weight cannot be read.
    """
    return foresee(measure(model, schemes))
