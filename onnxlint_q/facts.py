"""Everything known about one model: what a rule sees, and all that it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from onnxlint_q.analysis.classifier import gives_class_scores
from onnxlint_q.analysis.cures import Cured, find_cures
from onnxlint_q.analysis.data import DataSummary
from onnxlint_q.analysis.folding import Blocked, fold_batch_norms
from onnxlint_q.analysis.forecast import Forecast, forecast, noise_model
from onnxlint_q.analysis.observations import Observations, TensorObservation
from onnxlint_q.analysis.placement import quantized_activations, stored_tensor
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, Scheme
from onnxlint_q.analysis.statistics import LayerFacts, measure_layers
from onnxlint_q.analysis.stem import Stem, find_stem
from onnxlint_q.graph import (
    Format,
    Model,
    QuantizedTensor,
    detect_format,
    find_layers,
    find_quantized_tensors,
)


@dataclass(frozen=True, eq=False)
class Facts:
    """A model with all measurements made of it.

    Attributes:
        model: the graph and its constants.
        schemes: the schemes the run is about.
        format: how the file is quantised already.
        layers: folded layers with the statistics of their weights, in data order.
        blocked: BatchNormalizations that do not fold, with the reason.
        quantized: every scale/zero-point pair of the file.
        forecasts: by scheme name, for a float model; empty for a quantised one.
        cures: layers that can be cured without changing what the float model computes, by their key.
        data: what the calibration data looks like; None without `--calibrate`.
        observations: what a run on calibration data saw; None without `--calibrate` or where it could not run.
    """

    model: Model
    schemes: tuple[Scheme, ...]
    format: Format
    layers: tuple[LayerFacts, ...]
    blocked: tuple[Blocked, ...]
    quantized: tuple[QuantizedTensor, ...]
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    cures: Mapping[str, Cured] = field(default_factory=dict)
    data: DataSummary | None = None
    observations: Observations | None = None

    @property
    def is_float(self) -> bool:
        """Whether nothing in the file is quantised yet."""
        return self.format is Format.FLOAT

    @cached_property
    def layer_by_output(self) -> Mapping[str, LayerFacts]:
        """Layers by their key."""
        return {layer.output: layer for layer in self.layers}

    @cached_property
    def is_classifier(self) -> bool:
        """Whether the one output holds the scores of classes, so that it matters which is the largest."""
        return gives_class_scores(self.model)

    @cached_property
    def is_quantisable(self) -> bool:
        """Whether there is a weight or an activation that a scheme would quantise."""
        placed = quantized_activations(self.model, [layer.folded for layer in self.layers])
        return bool(self.layers) or any(not place.constant for place in placed)

    @cached_property
    def stem(self) -> Stem | None:
        """The convolution that reads the image input of a float model."""
        return find_stem(self.model, [layer.folded for layer in self.layers]) if self.is_float else None

    def stored(self, layer: LayerFacts) -> TensorObservation | None:
        """What a run saw of the tensor that holds a layer's result; None without a run, or if it gets no scale."""
        return self.observations.tensors.get(self.stored_tensor(layer)) if self.observations is not None else None

    def stored_tensor(self, layer: LayerFacts) -> str:
        """Key of the tensor that holds a layer's result at run time: behind a Relu or Clip that is absorbed."""
        return stored_tensor(self.model, layer.output)

    def inspected(self, data: DataSummary) -> Facts:
        """The same facts with what the calibration data looks like."""
        return replace(self, data=data)

    def observed(self, observations: Observations) -> Facts:
        """The same facts with what a run saw."""
        return replace(self, observations=observations)


def measure(model: Model, schemes: Sequence[Scheme]) -> Facts:
    """All static measurements of `model`; nothing is executed.

    Raises:
        ModelError: a weight cannot be read.
    """
    folding = fold_batch_norms(model, list(find_layers(model)))
    # The two plain int8 schemes are the yardsticks of every report, asked for or not.
    layers = measure_layers(model, folding.layers, list({s.name: s for s in (*DEFAULT_SCHEMES, *schemes)}.values()))
    file_format = detect_format(model)
    network = noise_model(model, folding.layers) if file_format is Format.FLOAT else None
    return Facts(
        model=model,
        schemes=tuple(schemes),
        format=file_format,
        layers=layers,
        blocked=folding.blocked,
        quantized=tuple(find_quantized_tensors(model)),
        forecasts=forecast(network, layers, schemes) if network else {},
        cures=find_cures(model, layers, network) if network else {},
    )
