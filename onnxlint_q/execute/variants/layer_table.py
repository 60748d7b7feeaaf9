"""Variants of single layers, all on the same samples: what each costs the output.

As many layers as fit the memory run together in one graph where the network allows it, the others one variant after
the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy.typing as npt

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, check_same
from onnxlint_q.execute.executable import PREFIX, Executable
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError, Runs, Session, time_limit, too_long
from onnxlint_q.execute.variants.fanout import Variant, blocks, fan_out
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator, Reference
from onnxlint_q.execute.variants.quantized import ActivationScale, quantized_weight, with_activations, with_weight
from onnxlint_q.execute.variants.variant_runs import Samples, measure_variants
from onnxlint_q.execute.workers import LateError, cores, in_order

Array = npt.NDArray[Any]

# What the largest tensor of one graph, and all its other weights, may take: a run holds a few such tensors at once.
_TENSOR_BYTES = 256 << 20
_WEIGHT_BYTES = 256 << 20
# A network whose single activations are larger still gets a few layers a graph.
_FEWEST = 4
# A variant that changes nothing goes with the others: it has to give what the float network gives.
_UNCHANGED = f"{PREFIX}unchanged"


@dataclass(frozen=True, eq=False)
class LayerVariant:
    """One layer quantised, the rest of the network in float.

    Attributes:
        weights: the scheme that quantises its weight; None if it stays.
        activation: how its result is rounded; None if it is not. Where its weight is quantised too, there has to be
            a variant with that weight alone.
    """

    layer: LayerFacts
    weights: Scheme | None = None
    activation: ActivationScale | None = None


def measure_layers(
    measured: Measured,
    base: Executable,
    variants: Mapping[str, LayerVariant],
    samples: Samples,
    progress: Progress = silent,
) -> dict[str, OutputError]:
    """Error of each variant at the outputs, by the variant's key.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    errors: dict[str, OutputError] = {}
    for group in _groups(measured, base, variants):
        progress("layer by layer", len(errors), len(variants))
        try:
            errors |= _together(measured, base, group, samples)
        except (MixesBatchError, NotRunnableError):
            alone = {key: partial(_alone, base, measured, variant) for key, variant in group.items()}
            errors |= measure_variants(base, alone, samples, progress)
    progress("layer by layer", len(errors), len(variants))
    return errors


def _groups(
    measured: Measured, base: Executable, variants: Mapping[str, LayerVariant]
) -> Iterator[Mapping[str, LayerVariant]]:
    """Variants that fit one graph, those of one layer together, in the order of the layers."""
    shapes = (known.shape for known in measured.model.types.values() if known.shape is not None)
    largest = max((math.prod(dim or 1 for dim in shape) for shape in shapes), default=1 << 22)
    room = max(_FEWEST, _TENSOR_BYTES // (4 * largest * cores()))
    of_layer: dict[str, dict[str, LayerVariant]] = {}
    for key, variant in variants.items():
        of_layer.setdefault(variant.layer.output, {})[key] = variant
    group: dict[str, LayerVariant] = {}
    size = 0
    for layer, own in of_layer.items():
        schemes = sum(variant.weights is not None and variant.activation is None for variant in own.values())
        weight = schemes * base.weights[base.layer_weights[layer]].nbytes
        if group and (len(group) + len(own) > room or size + weight > _WEIGHT_BYTES):
            yield group
            group, size = {}, 0
        group |= own
        size += weight
    if group:
        yield group


def _alone(base: Executable, measured: Measured, variant: LayerVariant) -> Executable:
    made = base if variant.weights is None else with_weight(base, measured, [variant.layer], variant.weights)
    return made if variant.activation is None else with_activations(made, [variant.activation])


def _together(
    measured: Measured, base: Executable, variants: Mapping[str, LayerVariant], samples: Samples
) -> dict[str, OutputError]:
    first = min((variant.layer for variant in variants.values()), key=lambda layer: layer.folded.layer.node.order)
    unchanged = Variant(first.output, base.weights[base.layer_weights[first.output]])
    fan = fan_out(measured.model, base, {_UNCHANGED: unchanged, **_with_arrays(measured, variants)})
    outputs = list(fan.order)
    # Each thread works on a sample of its own, while this one adds up what the others have done.
    session = Session(fan.executable, 1)
    runs = Runs()

    def run(number: int, sample: Mapping[str, Array]) -> tuple[Mapping[str, Array], list[Array]]:
        with runs.options(number) as options:
            return sample, session.compute(sample, options, outputs)

    sums = {key: OutputErrorAccumulator() for key in variants}
    with closing(in_order(run, samples(), cores(), time_limit(), runs.stop)) as stream:
        try:
            for sample, made in stream:
                if any(array.ndim and array.shape[0] != 1 for array in sample.values()):
                    raise MixesBatchError("a sample is a batch of several")
                parts = [blocks(values, fan.order[name]) for name, values in zip(outputs, made, strict=True)]
                float_parts = [part for part, _ in parts]
                for exact, own in parts:
                    check_same(exact, own.get(_UNCHANGED, exact))
                reference = Reference(float_parts)
                for key, accumulator in sums.items():
                    accumulator.add(reference, [own.get(key, part) for part, own in parts])
        except LateError as error:
            raise too_long() from error
    return {key: accumulator.result() for key, accumulator in sums.items()}


def _with_arrays(measured: Measured, variants: Mapping[str, LayerVariant]) -> dict[str, Variant]:
    """The variants with their weights, one array for all variants of one layer and scheme."""
    weights: dict[tuple[str, str], Array] = {}
    made: dict[str, Variant] = {}
    for key, variant in variants.items():
        found = Variant(variant.layer.output, None, variant.activation)
        if variant.weights is not None:
            which = (variant.layer.output, variant.weights.name)
            if which not in weights:
                weights[which] = quantized_weight(measured, variant.layer, variant.weights)
            found = replace(found, weight=weights[which])
        made[key] = found
    return made
