"""The sensitivity table: what each layer alone costs the output, weight, activation and both, scheme by scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.layer_table import LayerVariant, measure_layers
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.quantized import ActivationScale, activation_scales, can_simulate
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.judge.facts import Facts


@dataclass(frozen=True, eq=False)
class SensitivityTable:
    """Errors at the outputs by (scheme name, layer key).

    Attributes:
        weights: only the layer's weight is quantised.
        activations: only its result is, behind the Relu or Clip that the quantiser absorbs. Without an entry if the
            result gets no scale of its own or was not observed.
        both: its weight and its result are.
    """

    weights: Mapping[tuple[str, str], OutputError]
    activations: Mapping[tuple[str, str], OutputError]
    both: Mapping[tuple[str, str], OutputError]


def measure_sensitivity(
    facts: Facts,
    base: Executable,
    samples: Samples,
    observations: Observations | None = None,
    observer: str = DEFAULT_OBSERVER,
    progress: Progress = silent,
) -> SensitivityTable:
    """Quantise one layer at a time; without `observations` weights only, as there are no ranges for activations.

    Ranges are those of `observer`, one of analysis.observers.

    What schemes have in common is run once: an activation alone does not depend on how weights are quantised.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    variants: dict[str, LayerVariant] = {}
    keys: dict[str, dict[tuple[str, str], str]] = {"weights": {}, "activations": {}, "both": {}}
    for scheme in facts.schemes:
        results = _results(facts, scheme, observations, observer)
        for layer in facts.layers:
            place = (scheme.name, layer.output)
            entry = results.get(layer.output)
            wanted = {"weights": (f"weight {scheme.name}", LayerVariant(layer, scheme))}
            if entry is not None:
                wanted["activations"] = (f"result {scheme.activations}", LayerVariant(layer, None, entry))
                wanted["both"] = (f"both {scheme.name}", LayerVariant(layer, scheme, entry))
            for kind, (name, variant) in wanted.items():
                keys[kind][place] = f"{name} {layer.output}"
                variants.setdefault(keys[kind][place], variant)
    errors = measure_layers(facts, base, variants, samples, progress)
    return SensitivityTable(**{kind: {place: errors[key] for place, key in own.items()} for kind, own in keys.items()})


def _results(
    facts: Facts, scheme: Scheme, observations: Observations | None, observer: str
) -> Mapping[str, ActivationScale]:
    """How each layer's result is rounded, by layer key."""
    if observations is None or not can_simulate(facts.model.opset, scheme):
        return {}
    scales = {entry.tensor: entry for entry in activation_scales(facts, scheme, observations, observer)}
    stored = {layer.output: facts.stored_tensor(layer) for layer in facts.layers}
    return {layer: scales[tensor] for layer, tensor in stored.items() if tensor in scales}
