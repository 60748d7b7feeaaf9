"""The sensitivity table: what each layer alone costs the output, weight, activation and both, scheme by scheme."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onnxlint_q.analysis.experiment import Experiment, LayerSqnr
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench


def layer_experiments(bench: Workbench) -> list[Experiment]:
    """Every layer alone under every scheme, as far as the bench can run it; of several weights each one, too.

    There is none on the result of a layer, the tensor behind the Relu or Clip that the quantiser absorbs, where that
    gets no scale of its own, was not observed, or stays in float. Where activations are rounded in front of layers it
    is what the layer reads. Without calibration there are only weights.
    """
    measured = bench.measured
    found = (
        experiment
        for scheme in measured.schemes
        for layer in measured.layers
        for experiment in (*_of_layer(measured, scheme, layer), *_of_operands(scheme, layer).values())
    )
    calibrated = bench.observations is not None
    return [one for one in found if (calibrated or not one.activations) and bench.can_run(one)]


def measure_sensitivity(bench: Workbench, samples: Samples, progress: Progress = silent) -> Errors:
    """Quantise one layer at a time; weights only where the bench is not calibrated.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    count = bench.observations.samples if bench.observations is not None else None
    return run_experiments(bench, layer_experiments(bench), samples, progress, Allowance(samples=count))


def layer_sqnr(measured: Measured, scheme: Scheme, layer: LayerFacts, errors: Errors) -> LayerSqnr | None:
    """The row of one layer and scheme, infinite where the outputs are identical; None if nothing of it was run."""
    weight, activation, both = (errors.get(experiment) for experiment in _of_layer(measured, scheme, layer))
    if weight is None and activation is None and both is None:
        return None
    operands = _of_operands(scheme, layer)
    return LayerSqnr(
        weight_sqnr_db=_figure(weight),
        sqnr_db=_figure(both),
        activation_sqnr_db=_figure(activation),
        operands={name: _figure(errors[one]) for name, one in operands.items() if one in errors},
    )


def _of_layer(measured: Measured, scheme: Scheme, layer: LayerFacts) -> Iterator[Experiment]:
    """On its weight, on what is rounded at it, on both."""
    result = measured.rounded_at(scheme, layer)
    yield Experiment.on_weight(scheme, layer.output)
    yield Experiment.on_activation(scheme, result)
    yield Experiment.on_layer(scheme, layer.output, result)


def _of_operands(scheme: Scheme, layer: LayerFacts) -> Mapping[str, Experiment]:
    """On each of its weights alone, by name, where it has several."""
    operands = layer.operands if layer.others else ()
    return {part.operand: Experiment.on_weight(scheme, layer.output, part.operand) for part in operands}


def _figure(error: OutputError | None) -> float | None:
    if error is None or not error.has_signal:
        return None
    return error.sqnr_db if error.sqnr_db is not None else math.inf
