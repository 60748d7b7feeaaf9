"""All static measurements of one model, taken once: what the forecast, the runs and the rules start from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxlint_q.analysis.causes.masks import Mask, find_masks
from onnxlint_q.analysis.folding import Blocked, FoldedLayer, fold_batch_norms
from onnxlint_q.analysis.freeing import Freer
from onnxlint_q.analysis.image.stem import Stem, find_stem
from onnxlint_q.analysis.outputs.decided_length import Front, find_fronts
from onnxlint_q.analysis.outputs.output_kind import Holds, Output, find_outputs
from onnxlint_q.analysis.placement import (
    Placement,
    dynamic_tensors,
    float_weights,
    quantized_activations,
    stored_tensor,
)
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, Quantizer, Scheme, default_schemes
from onnxlint_q.analysis.statistics import LayerFacts, measure_layers
from onnxlint_q.analysis.steps import CodesKept, kept_codes
from onnxlint_q.analysis.targets.uses import Use, find_uses
from onnxlint_q.graph import (
    Format,
    Model,
    QuantizedTensor,
    detect_format,
    find_layers,
    find_quantized_tensors,
)


@dataclass(frozen=True, eq=False)
class Measured:
    """A model with what its file alone tells.

    Attributes:
        model: the graph and its constants.
        schemes: the schemes the run is about.
        format: how the file is quantised already.
        layers: folded layers with the statistics of their weights, in data order; none of an integer graph.
        blocked: BatchNormalizations that do not fold, with the reason.
        quantized: every scale/zero-point pair of the file.
        placements: every activation of the folded model that a static quantiser gives a scale, in data order.
        coded: how many layers compute with codes whose scale is nowhere in the file, as those of an integer graph.
    """

    model: Model
    schemes: tuple[Scheme, ...]
    format: Format
    layers: tuple[LayerFacts, ...]
    blocked: tuple[Blocked, ...]
    quantized: tuple[QuantizedTensor, ...]
    placements: tuple[Placement, ...]
    coded: int = 0

    @cached_property
    def folded(self) -> tuple[FoldedLayer, ...]:
        """The layers with what folds into them."""
        return tuple(layer.folded for layer in self.layers)

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Every quantised operand of every operator."""
        return find_uses(self.model, self.quantized, (folded.layer for folded in self.folded))

    @cached_property
    def freer(self) -> Freer:
        """Says which nodes to exclude so that a tensor stays in float."""
        return Freer(self.model, self.folded)

    def freer_under(self, scheme: Scheme) -> Freer:
        """The same for a scheme."""
        return self._freer_of_layers if scheme.layers_only else self.freer

    @cached_property
    def _freer_of_layers(self) -> Freer:
        return Freer(self.model, self.folded, layers_only=True)

    def placements_under(self, scheme: Scheme, excluded: Collection[str] = ()) -> tuple[Placement, ...]:
        """Every activation that rounding changes under a scheme, in data order, these nodes excluded by name."""
        if scheme.is_dynamic:
            written = (folded.layer for folded in self.folded if scheme.quantises(folded.layer))
            found = dynamic_tensors(self.model, written, excluded)
            return tuple(place for place in found if not place.moved)
        if not scheme.is_calibrated:
            return ()
        if not excluded and not scheme.layers_only:
            return self.placements
        return quantized_activations(self.model, self.folded, excluded, layers_only=scheme.layers_only)

    def float_weights(self, scheme: Scheme, excluded: Collection[str]) -> frozenset[str]:
        """Keys of the layers whose weights would stay in float if the nodes with these names were excluded."""
        if not excluded:
            return frozenset()
        if scheme.quantizer is Quantizer.STATIC:
            return float_weights(self.model, self.folded, excluded, layers_only=scheme.layers_only)
        return frozenset(folded.output for folded in self.folded if folded.layer.node.name in excluded)

    def rounded_at(self, scheme: Scheme, layer: LayerFacts) -> str:
        """Key of the tensor that a scheme rounds at a layer: what the layer reads, or what holds its result."""
        return layer.folded.layer.input if scheme.is_dynamic else self.stored_tensor(layer)

    @cached_property
    def folds_alone(self) -> bool:
        """Whether a layer has something folded into it here that ONNX Runtime leaves as it is."""
        return not all(folded.folds_in_preparation for folded in self.folded)

    @cached_property
    def folds_late(self) -> bool:
        """Whether ONNX Runtime folds a layer only after its weights are taken off the list of inputs."""
        replaceable = self.model.replaceable
        read = (
            key
            for folded in self.folded
            for norm in (folded.after, folded.before)
            if norm is not None
            for key in (*norm.node.inputs[1:], folded.layer.weight, folded.layer.bias)
        )
        return any(self.model.constants.origin(key) in replaceable for key in filter(None, read))

    @property
    def weights(self) -> Iterator[LayerFacts]:
        """Every layer seen with each of its weights, in data order."""
        return (operand for layer in self.layers for operand in layer.operands)

    def kept_codes(self, products: int = 0) -> Iterator[CodesKept]:
        """What the codes of every weight that is stored in integers hold; each is read when its turn is.

        Weights of which fewer `products` make an output are left out.
        """
        return kept_codes(self.model, (part.folded.layer for part in self.weights), self.quantized, products)

    @property
    def is_float(self) -> bool:
        """Whether nothing in the file is quantised yet."""
        return self.format is Format.FLOAT

    @cached_property
    def layer_by_output(self) -> Mapping[str, LayerFacts]:
        """Layers by their key."""
        return {layer.output: layer for layer in self.layers}

    @cached_property
    def layer_stored_in(self) -> Mapping[str, LayerFacts]:
        """Layers by the tensor that holds their result at run time."""
        return {self.stored_tensor(layer): layer for layer in self.layers}

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """What each output holds, in their order."""
        return find_outputs(self.model)

    @cached_property
    def fronts(self) -> Mapping[str, Front]:
        """What is compared in place of an output whose length hangs on values, by output."""
        return find_fronts(self.model, self.folded)

    @cached_property
    def compared_outputs(self) -> tuple[Output, ...]:
        """What is compared when the model runs: its outputs, or what is in front of them."""
        found: dict[str, Output] = {}
        for output in self.outputs:
            front = self.fronts.get(output.name)
            held = [output] if front is None else [Output(tensor) for tensor in front.tensors]
            found.update((one.name, one) for one in held)
        return tuple(found.values())

    @property
    def is_classifier(self) -> bool:
        """Whether the one output holds the scores of classes, so that it matters which is the largest."""
        return [output.holds for output in self.outputs] == [Holds.CLASS_SCORES]

    def is_quantisable(self, scheme: Scheme) -> bool:
        """Whether there is a weight or an activation that the quantiser would quantise under the scheme."""
        rounded = any(not place.constant for place in self.placements_under(scheme))
        return rounded or any(scheme.quantises(layer.folded.layer) for layer in self.layers)

    def quantises_half(self, scheme: Scheme) -> bool:
        """Whether the quantiser of a scheme meets weights in float16."""
        return any(folded.layer.is_half and scheme.quantises(folded.layer) for folded in self.folded)

    @property
    def calibrated_schemes(self) -> tuple[Scheme, ...]:
        """Those whose activations have ranges from calibration; no other has a range that a mask is in."""
        return tuple(scheme for scheme in self.schemes if scheme.is_calibrated)

    @cached_property
    def masks(self) -> tuple[Mask, ...]:
        """The constants of a float model that rule scores of a Softmax out."""
        return find_masks(self.model) if self.is_float else ()

    @cached_property
    def stem(self) -> Stem | None:
        """The convolution that reads the image input of a float model."""
        return find_stem(self.model, self.folded) if self.is_float else None

    def stored_tensor(self, layer: LayerFacts) -> str:
        """Key of the tensor that holds a layer's result at run time: behind a Relu or Clip that is absorbed."""
        return stored_tensor(self.model, layer.output)


def measure(model: Model, schemes: Sequence[Scheme] | None = None) -> Measured:
    """Measure `model` for these schemes, by default those of its kind of network; nothing is executed.

    Raises:
        ModelError: a weight cannot be read.
    """
    found = list(find_layers(model))
    schemes = default_schemes(model, found) if schemes is None else schemes
    kind, bare = detect_format(model, found)
    coded = len(found) if bare else 0
    folding = fold_batch_norms(model, [] if coded else found)
    # The two plain int8 schemes are the yardsticks of every report, asked for or not.
    layers = measure_layers(model, folding.layers, list({s.name: s for s in (*DEFAULT_SCHEMES, *schemes)}.values()))
    return Measured(
        model=model,
        schemes=tuple(schemes),
        format=kind,
        layers=layers,
        blocked=folding.blocked,
        quantized=tuple(find_quantized_tensors(model)),
        placements=quantized_activations(model, folding.layers),
        coded=coded,
    )
