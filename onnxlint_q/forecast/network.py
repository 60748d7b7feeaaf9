"""A network as the file tells it: samples of every tensor, and what an error in each costs, whatever the scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnxlint_q.analysis.causes.masks import floors
from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.forecast.backward import output_costs
from onnxlint_q.forecast.ends import End, ends_in, find_ends
from onnxlint_q.forecast.expected.level import Traits
from onnxlint_q.forecast.expected.traits import Place, traits
from onnxlint_q.forecast.forward import Propagation, propagate
from onnxlint_q.forecast.fused.expansion import expanded
from onnxlint_q.forecast.inputs.tokens import holds_ids, positions_for
from onnxlint_q.forecast.operators.control.branches import ELSE
from onnxlint_q.forecast.rounding.limits import ChannelRanges, Ranges, channel_ranges, expected_limits, value_ranges
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import Model, Value, find_layers
from onnxlint_q.graph.loading.build import declared
from onnxlint_q.graph.settled import Settled, is_known


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
