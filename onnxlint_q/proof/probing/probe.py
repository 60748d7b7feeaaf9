"""No data, but executed: every layer and every scheme on synthetic inputs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.analysis.sizes.usual import OPEN_SIDE
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.synthetic import SyntheticSource
from onnxlint_q.execute.executable import Executable, ending_at
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import Comparable, OutputError
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.forecast.prior import input_scale
from onnxlint_q.proof.sensitivity import layer_experiments

PROBE_SECONDS = 60.0
"""What a probe takes at most, give or take a run."""
# Small pictures are cheap and vary more, so they get more samples: about this many pixels in all.
_PIXELS = 200_000
_FEWEST, _MOST = 2, 64
# The whole network runs once a scheme, not once a layer, so that it can afford a few more where samples are large.
_FEWEST_WHOLE = 4
# What the float model alone may take of all time: the schemes and the layers run it many times over.
_FLOAT_SHARE = 0.05
# What the schemes may take of all time; they come first, because they decide the verdict.
_SCHEME_SHARE = 0.5
# Outputs between 0 and 1 that stay below this everywhere say that the network sees nothing in the input.
_EMPTY = 1e-3
_SCORE = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Probe:
    """What the run on synthetic inputs showed.

    Attributes:
        samples: how many inputs the layers were to be compared on.
        errors: of the weight of each layer alone, and of whole schemes, ranges taken from the same kind of inputs. No
            schemes where the outputs are empty; no layer that the time did not reach.
        notes: what weakens the figures, in words.
    """

    samples: int
    errors: Errors
    notes: tuple[str, ...] = ()


def probe(bench: Workbench, progress: Progress = silent, seconds: float = PROBE_SECONDS) -> Probe:
    """Quantise everything, and then one layer at a time, on seeded synthetic inputs.

    Where every output is a score that stays next to zero, the layers are compared at what the scores are computed
    from: a score squashes what a layer does to it, its input still orders the layers. It says nothing about how the
    scores themselves would fare, so there are no end-to-end figures then.

    What does not fit into `seconds` runs on fewer inputs; layers that are not reached at all are left out, and said.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the model on such inputs.
        DataError: an input cannot be made up.
    """
    end = time.monotonic() + seconds
    bench = replace(bench, observations=None)
    measured = bench.measured
    source = made_up(bench)
    count = _sample_count(measured)
    outputs = list(_float_outputs(bench, source, count, _FLOAT_SHARE * seconds))
    planned, count = count, max(len(outputs), 1)
    notes: list[str] = []
    errors: dict[Experiment, OutputError] = {}
    if _is_empty(bench, outputs):
        note = "synthetic inputs leave the outputs empty, so layers are compared at the input of the final "
        notes.append(f"{note}{' and '.join(_score_functions(bench))}; schemes are not judged")
        before = _before_scores(bench.float_model)
        names = (value.name for value in before.proto.graph.output)
        bench = replace(bench, float_model=before, outputs=tuple(map(Output, names)))
    else:
        more = max(count, _FEWEST_WHOLE)
        whole = bench.calibrated(observe(measured, source, more, progress, limits=bench.limits))
        schemes = [Experiment(scheme) for scheme in measured.schemes if whole.can_run(Experiment(scheme))]
        unseen = partial(source.take, measured.model.inputs, more, more)
        errors |= run_experiments(whole, schemes, unseen, progress, Allowance(_SCHEME_SHARE * seconds, fewest=_FEWEST))
        if errors and all(_is_reshaped(error) for error in errors.values()):
            return Probe(planned, errors, ("the outputs change their length when quantised: layers were not probed",))
        notes += _on_fewer("schemes", errors, more, f"they may take {_SCHEME_SHARE * seconds:g} s")
    layers, samples = layer_experiments(bench), partial(source.take, measured.model.inputs, count)
    allowance = Allowance(end - time.monotonic(), count, _FEWEST)
    found = run_experiments(bench, layers, samples, _with_estimate(progress, allowance, seconds), allowance)
    notes += _cut_short(layers, found, planned, allowance, seconds)
    return Probe(planned, {**errors, **found}, tuple(notes))


def made_up(bench: Workbench) -> Source:
    """Synthetic inputs of a network, of the size that its first layer expects."""
    measured = bench.measured
    scale = input_scale(measured.model, [layer.folded for layer in measured.layers])
    return SyntheticSource(scale, limits=bench.limits)


def _float_outputs(
    bench: Workbench, source: Source, count: int, seconds: float
) -> Iterator[Sequence[npt.NDArray[Any]]]:
    """The outputs of the float model on as many samples as fit the time, at least a few."""
    exact, start = Session(bench.float_model, limits=bench.limits), time.monotonic()
    for done, sample in enumerate(source.take(bench.measured.model.inputs, count)):
        if done >= _FEWEST and time.monotonic() - start > seconds:
            return
        yield exact.run(sample)


def _with_estimate(progress: Progress, allowance: Allowance, seconds: float) -> Progress:
    """Progress that says how long the layers would take, where that is too long."""

    def told(stage: str, done: int, total: int) -> None:
        if allowance.estimate is not None and allowance.estimate > seconds:
            stage = f"{stage}, all would take about {allowance.estimate:.0f} s, the limit is {seconds:g} s"
        progress(stage, done, total)

    return told


def _cut_short(
    layers: Sequence[Experiment], errors: Errors, samples: int, allowance: Allowance, seconds: float
) -> Iterator[str]:
    """What the time did not reach."""
    left = {key for experiment in layers if experiment not in errors for key in experiment.weights}
    every = {key for experiment in layers for key in experiment.weights}
    about = f"all would take about {allowance.estimate:.0f} s" if allowance.estimate is not None else "it was slow"
    reason = f"{about}, and the limit is {seconds:g} s"
    yield from _on_fewer("layers", errors, samples, reason)
    if left:
        yield f"{len(left)} of {len(every)} layers were not probed: {reason}"


def _on_fewer(what: str, errors: Errors, samples: int, reason: str) -> Iterator[str]:
    fewest = min((error.samples for error in errors.values()), default=samples)
    if fewest < samples:
        yield f"{what} ran on as few as {fewest} of {samples} inputs: {reason}"


def _sample_count(measured: Measured) -> int:
    """Two to sixty-four, as many busy scenes as simple ones, by the size of the largest input."""
    shapes = [value.taken or value.type.shape or () for value in measured.model.inputs]
    largest = max(
        (int(np.prod([dim or OPEN_SIDE for dim in shape[2:]])) for shape in shapes if len(shape) == 4), default=1
    )
    return int(np.clip(2 * round(_PIXELS / max(largest, 1) / 2), _FEWEST, _MOST))


def _is_empty(bench: Workbench, outputs: Sequence[Sequence[npt.NDArray[Any]]]) -> bool:
    """Whether every output is a bounded score that stays next to zero on every sample."""
    for index, output in enumerate(bench.outputs):
        producer = bench.measured.model.producer(output.name)
        if producer is None or producer.operator.bounds != _SCORE:
            return False
        if any(sample[index].size and float(np.abs(sample[index]).max()) >= _EMPTY for sample in outputs):
            return False
    return bool(bench.outputs)


def _is_reshaped(error: OutputError) -> bool:
    """Whether no output could be compared, for the shape that it got."""
    return not error.has_signal and any(output.comparable is Comparable.RESHAPED for output in error.outputs)


def _score_functions(bench: Workbench) -> Sequence[str]:
    producers = (bench.measured.model.producer(output.name) for output in bench.outputs)
    return sorted({node.op_type for node in producers if node is not None})


def _before_scores(executable: Executable) -> Executable:
    """The same graph whose outputs are the inputs of the nodes that make them."""
    graph = executable.proto.graph
    made_from = {name: node.input[0] for node in graph.node if node.input for name in node.output}
    return ending_at(executable, list(dict.fromkeys(made_from[value.name] for value in graph.output)))
