"""The workbench: one folded float network, and every experiment on it as a model that runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import onnx

from onnxlint_q.analysis.causes.known_ranges import KnownRanges
from onnxlint_q.analysis.causes.widening import WIDENED, widened
from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import (
    Float,
    NumberFormat,
    activation_qparams,
    bias_round_trip,
    round_trip,
    scale_for_bias,
    weight_round_trip,
    weight_scale,
)
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER, OBSERVERS
from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.analysis.placement import Placement, added_bias, scaled_tensors
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.executable import Array, Executable, ending_at, folded
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.variants.dynamic_lstm import dynamic_lstms, with_kernels
from onnxlint_q.execute.variants.rounding import (
    ActivationScale,
    DynamicScale,
    Rounding,
    can_round,
    scale_inputs,
    with_activations,
)
from onnxlint_q.finding import Subject

Roundings = Mapping[str, Rounding]


@dataclass(frozen=True, eq=False)
class Workbench:
    """What all experiments on one network share.

    Attributes:
        measured: the network.
        float_model: it, folded, with an initializer for each layer's weight.
        outputs: what its outputs hold, in their order.
        limits: of all runs.
        observations: what the ranges of activations come from; None where only weights can be quantised.
        observer: how they come from it, one of analysis.observed.observers, or `WIDENED`.
        ranges: smallest and largest value of tensors whose range does not come from it.
        alike: whether each sample counts alike, see `OutputErrorAccumulator`.
    """

    measured: Measured
    float_model: Executable
    outputs: tuple[Output, ...]
    limits: Limits = DEFAULT_LIMITS
    observations: Observations | None = None
    observer: str = DEFAULT_OBSERVER
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    alike: bool = False

    def calibrated(self, observations: Observations, observer: str = DEFAULT_OBSERVER) -> Workbench:
        """The same network with ranges for its activations."""
        return replace(self, observations=observations, observer=observer)

    def with_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> Workbench:
        """The same network with other ranges for these tensors, and for those that share their scale."""
        return replace(self, ranges={**self.ranges, **ranges})

    @cached_property
    def _roundings(self) -> dict[tuple[Hashable, NumberFormat, frozenset[str], frozenset[str]], Roundings]:
        return {}

    def roundings(
        self, scheme: Scheme, excluded: frozenset[str] = frozenset(), wide: frozenset[str] = frozenset()
    ) -> Roundings:
        """By tensor, in data order, how every activation is quantised that a scheme quantises and that has a range.

        Args:
            scheme: which.
            excluded: names of nodes that stay in float.
            wide: tensors whose codes have 16 bits.
        """
        unknown = scheme.is_calibrated and self.observations is None
        if unknown or not can_round(self.measured.model.opset, scheme):
            return {}
        key = (scheme.treatment(Subject.ACTIVATION), scheme.weights, excluded, wide)
        if key not in self._roundings:
            places = self.measured.placements_under(scheme, excluded)
            found = ((place.tensor, self._rounding(place, scheme, wide)) for place in places)
            self._roundings[key] = {tensor: rounding for tensor, rounding in found if rounding is not None}
        return self._roundings[key]

    def scales(self, scheme: Scheme, excluded: frozenset[str] = frozenset()) -> Mapping[str, ActivationScale]:
        """Those of `roundings` whose scales are known before the run."""
        found = self.roundings(scheme, excluded)
        return {tensor: entry for tensor, entry in found.items() if isinstance(entry, ActivationScale)}

    def _rounding(self, place: Placement, scheme: Scheme, wide: frozenset[str]) -> Rounding | None:
        assert scheme.activations is not None
        known = self.measured.model.types.get(place.tensor)
        elem_type = known.elem_type if known and known.elem_type else int(onnx.TensorProto.FLOAT)
        if scheme.is_dynamic and not place.constant:
            return DynamicScale(place.tensor, frozenset(node.output for node in place.asked), elem_type)
        number = scheme.weights if place.weight else scheme.activations
        widened = place.like in wide and not place.constant
        number = number.widened if widened else number
        limits = self.range_of(place, number if widened else scheme.activations)
        if limits is None:
            return None
        if not np.isfinite(limits).all():
            # What ONNX Runtime's tools write: nothing that is rounded with it stays a number.
            return ActivationScale(place.tensor, np.float32(np.inf), 0, number, elem_type)
        return ActivationScale(place.tensor, *activation_qparams(*limits, number), number, elem_type)

    def range_of(self, place: Placement, number: NumberFormat) -> tuple[float, float] | None:
        """Smallest and largest value that a tensor is quantised for, infinite for a mask; None where nothing is known.

        Args:
            place: the tensor.
            number: format of its codes.
        """
        model, source = self.measured.model, self._observed_as.get(place.like, place.like)
        tensors = self.observations.tensors if self.observations is not None else {}
        seen = tensors.get(place.like) or tensors.get(source)
        constant = model.constant(source) if seen is None else None
        if place.like in self.ranges:
            return self.ranges[place.like]
        if place.bounds is not None:
            return place.bounds
        if seen is not None:
            if self.observer == WIDENED:
                return widened(place.like, seen, self._known)
            return OBSERVERS[self.observer](seen, number)
        if constant is not None and constant.size:
            return float(constant.min()), float(constant.max())
        return (-np.inf, 0.0) if source in self._endless else None

    @cached_property
    def _known(self) -> KnownRanges:
        return KnownRanges(self.measured.model)

    @cached_property
    def _endless(self) -> frozenset[str]:
        """Tensors that a mask of minus infinity reaches: the quantiser makes a scale of that, and nothing is left."""
        masks = [mask for mask in self.measured.masks if mask.endless]
        stored = (entry.node.input(entry.slot) for mask in masks for entry in mask.entries if entry.slot >= 0)
        return frozenset((*stored, *(tensor for mask in masks for tensor in mask.way)))

    @cached_property
    def _observed_as(self) -> Mapping[str, str]:
        """Tensors that hold values of others, and have their scale as long as no node is excluded.

        They were not observed; the others have their range, or a little more where only some of the values are left.
        """
        places = scaled_tensors(self.measured.model, self.measured.folded)
        return {place.tensor: place.like for place in places if place.moved}

    def weights(
        self, scheme: Scheme, layer: str, operand: str = "", input_scale: np.float32 | None = None
    ) -> dict[str, Array]:
        """A layer's folded weights after quantisation and back, in their stored layout and type, by initializer.

        With its bias, where that is rounded.

        Args:
            scheme: how.
            layer: key of the layer.
            operand: name of the weight that is wanted, of a layer that has several; empty for all.
            input_scale: of the codes that it reads, where that is known before the run.
        """
        made, found = self.float_model, dict[str, Array]()
        operands = self.measured.layer_by_output[layer].folded.operands
        for name, part in zip(made.layer_weights[layer], operands, strict=True):
            if operand in {"", part.layer.operand}:
                matrix, biases = self._rounded(scheme, part, input_scale)
                stored = np.ascontiguousarray(part.layer.as_stored(matrix), made.weights[name].dtype)
                found |= {name: stored, **biases}
        return found

    def _rounded(
        self, scheme: Scheme, folded_layer: FoldedLayer, input_scale: np.float32 | None
    ) -> tuple[Float, Mapping[str, Array]]:
        """A layer's folded weight as a matrix after quantisation and back, and its rounded bias by name.

        A bias is rounded where the layer reads codes of a known scale. Its steps are small, but a product of codes is a
        whole number of them too, so that results fall on halves where a float bias leaves none.
        """
        made, own = self.float_model, scheme.of_layer(folded_layer.layer)
        matrix, tied = folded_layer.matrix(self.measured.model), folded_layer.layer.scale_sharing
        name = made.layer_biases.get(folded_layer.output, "")
        bias = made.weights.get(name)
        added = added_bias(self.measured.model, folded_layer.layer.node) if scheme.layers_only else None
        apart = added is not None and not added.whole  # then the Add stays one, and adds floats
        if bias is None or apart or input_scale is None or own.weights.is_float or own.sharing.block_size:
            return weight_round_trip(matrix, own.weights, own.sharing, tied), {}
        scale = weight_scale(matrix, own.weights, own.sharing, tied)
        if scale.size not in {1, bias.size}:
            return round_trip(matrix, scale, own.weights), {}
        least = scale_for_bias(bias, input_scale)
        scale = np.maximum(scale, least.reshape(scale.shape) if scale.size > 1 else least.max())
        step = np.broadcast_to(np.ravel(scale), bias.size).reshape(bias.shape) * input_scale
        return round_trip(matrix, scale, own.weights), {name: bias_round_trip(bias, step).astype(bias.dtype)}

    def _input_scales(self, experiment: Experiment) -> Mapping[str, np.float32]:
        """By layer the scale of the codes that it reads, where that is known before the run."""
        if not experiment.scheme.is_calibrated:
            return {}
        entries = (entry for entry in self.activations_of(experiment) if isinstance(entry, ActivationScale))
        rounded = {entry.tensor: entry.scale for entry in entries}
        if not rounded or not experiment.weights:
            return {}
        places = scaled_tensors(
            self.measured.model,
            self.measured.folded,
            experiment.excluded,
            layers_only=experiment.scheme.layers_only,
        )
        scales = {place.tensor: rounded[place.like] for place in places if place.like in rounded}
        read = {layer.output: layer.folded.layer.input for layer in self.measured.layers}
        return {layer: scales[tensor] for layer, tensor in read.items() if tensor in scales}

    def settings(self, experiment: Experiment) -> dict[str, Array]:
        """What hangs on the ranges in the model of an experiment, by the names of its initializers.

        Scales and zero points of activations, and biases.
        """
        inputs = self._input_scales(experiment)
        found = scale_inputs(self.activations_of(experiment))
        for layer in self.weights_of(experiment):
            folded_layer = self.measured.layer_by_output[layer].folded
            found |= self._rounded(experiment.scheme, folded_layer, inputs.get(layer))[1]
        return found

    def weights_of(self, experiment: Experiment) -> tuple[str, ...]:
        """Keys of the layers whose weights it quantises, in data order."""
        layers, wanted = self.measured.layers, experiment.weights
        left = self.measured.float_weights(experiment.scheme, experiment.excluded)
        has = experiment.scheme.quantises if wanted == "all" else experiment.scheme.covers
        covered = (layer.output for layer in layers if has(layer.folded.layer))
        return tuple(key for key in covered if key not in left and (wanted == "all" or key in wanted))

    def activations_of(self, experiment: Experiment) -> tuple[Rounding, ...]:
        """How it quantises activations, in data order."""
        if not experiment.activations:
            return ()
        found, wanted = self.roundings(experiment.scheme, experiment.excluded, experiment.wide), experiment.activations
        return tuple(entry for tensor, entry in found.items() if wanted == "all" or tensor in wanted)

    def reading_of(self, experiment: Experiment) -> DynamicScale | None:
        """What an experiment on one activation rounds in front of its readers; None if it rounds it for all."""
        if experiment.activations == "all" or len(experiment.activations) != 1:
            return None
        (tensor,) = experiment.activations
        entry = self.roundings(experiment.scheme, experiment.excluded, experiment.wide).get(tensor)
        return entry if isinstance(entry, DynamicScale) else None

    def can_run(self, experiment: Experiment) -> bool:
        """Whether it quantises anything, and all that it names."""
        scheme, weights = experiment.scheme, self.weights_of(experiment)
        if experiment.activations == "all" and scheme.activations is not None:
            ready = not (scheme.is_calibrated and self.observations is None)
            ready = ready and can_round(self.measured.model.opset, scheme)
        else:
            ready = experiment.activations == "all" or len(self.activations_of(experiment)) == len(
                experiment.activations
            )
        named = experiment.weights == "all" or len(weights) == len(experiment.weights)
        return ready and named and bool(weights or self.activations_of(experiment))

    def starts_at(self, experiment: Experiment) -> int | None:
        """When the run of an experiment on one tensor parts from the float one, as a place in `computed`.

        It is about one weight, one activation, or both of a layer, which part at the layer: its weight and its result.
        What is rounded in front of its readers parts at the first of them. None if it is about anything else, if a
        layer with several weights is in it, or if it is about what is not computed from the inputs in the main graph.
        """
        weights, activations = experiment.weights, experiment.activations
        if weights == "all" or activations == "all" or len(weights) > 1 or len(activations) > 1:
            return None
        reading = self.reading_of(experiment)
        if reading is not None:
            starts = {self.measured.layer_by_output[layer].node.output for layer in weights}
            apart = not starts <= reading.readers or bool(self._with_several & reading.readers)
            readers = [self._places[name] for name in reading.readers if name in self._places]
            return None if apart else min(readers, default=None)
        places = {self._place_by_layer.get(layer) for layer in weights}
        places |= {self._place_by_tensor.get(tensor) for tensor in activations}
        return places.pop() if len(places) == 1 else None

    @cached_property
    def computed(self) -> tuple[tuple[str, ...], ...]:
        """Tensors of the main graph in the order in which they come to be: each input, the results of each node."""
        graph = self.float_model.proto.graph
        results = (tuple(filter(None, node.output)) for node in graph.node)
        return (*((value.name,) for value in graph.input), *results)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {tensor: place for place, tensors in enumerate(self.computed) for tensor in tensors}

    @cached_property
    def _with_several(self) -> frozenset[str]:
        """The first results of layers that have several weights."""
        return frozenset(layer.node.output for layer in self.measured.layers if layer.others)

    @cached_property
    def _place_by_layer(self) -> Mapping[str, int]:
        single = (layer for layer in self.measured.layers if not layer.others)
        found = ((layer.output, self._places.get(layer.node.output)) for layer in single)
        return {layer: place for layer, place in found if place is not None}

    @cached_property
    def _place_by_tensor(self) -> Mapping[str, int]:
        model, layers = self.measured.model, self.measured.layers
        places = {tensor: place for tensor, place in self._places.items() if not model.is_constant(tensor)}
        results = {
            self.measured.stored_tensor(layer): self._place_by_layer[layer.output]
            for layer in layers
            if layer.output in self._place_by_layer
        }
        return {**places, **results}

    def executable(self, experiment: Experiment) -> Executable:
        """The model in which just that is quantised."""
        made, scheme, inputs = self.float_model, experiment.scheme, self._input_scales(experiment)
        changed: dict[str, Array] = {}
        for layer in self.weights_of(experiment):
            changed |= self.weights(scheme, layer, experiment.operand, inputs.get(layer))
        made = made.with_weights(changed) if changed else made
        activations = self.activations_of(experiment)
        made = with_activations(made, activations) if activations else made
        whole = () if experiment.operand else self.weights_of(experiment)
        return with_kernels(made, dynamic_lstms(self.measured, whole, activations, scheme))


def workbench(measured: Measured, limits: Limits = DEFAULT_LIMITS) -> Workbench:
    """A workbench for a float network.

    Where an output is as long as values say, what is in front of the deciding step is compared in its place.
    """
    made = folded(measured)
    if measured.fronts:
        made = ending_at(made, [output.name for output in measured.compared_outputs])
    return Workbench(measured, made, measured.compared_outputs, limits)
