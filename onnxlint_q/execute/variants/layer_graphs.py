"""Experiments on single tensors, as many together in one graph as fit the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy.typing as npt

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.cores import cores
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, Shapes, check_same, typed
from onnxlint_q.execute.limits import Share
from onnxlint_q.execute.session import Session, too_long
from onnxlint_q.execute.variants.fanout import FanOut, blocks, fan_out
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.execute.workers import LateError, in_order
from onnxlint_q.finding import Subject

Array = npt.NDArray[Any]


def groups(
    bench: Workbench, experiments: Iterable[Experiment], shapes: Shapes | None = None
) -> Iterator[Sequence[Experiment]]:
    """Experiments that fit one graph, those that start at one place together, in data order.

    Each has to start at a place of the main graph, see `Workbench.starts_at`. `shapes` are those of the inputs.
    """
    limits, base = bench.limits, bench.float_model
    types = typed(bench.measured.model, base.proto, shapes or {})
    sizes = (math.prod(dim or 1 for dim in known.shape) for known in types.values() if known.shape is not None)
    room = max(limits.fewest_variants, limits.tensor_bytes // (4 * max(sizes, default=1 << 22) * cores()))
    by_place: dict[int, list[Experiment]] = {}
    for experiment in experiments:
        place = bench.starts_at(experiment)
        assert place is not None
        by_place.setdefault(place, []).append(experiment)
    group: list[Experiment] = []
    size = 0
    for _, own in sorted(by_place.items()):
        weights = {(e.scheme.treatment(Subject.WEIGHT), layer) for e in own for layer in e.weights}
        weight = sum(base.weights[name].nbytes for *_, layer in weights for name in base.layer_weights[layer])
        if group and (len(group) + len(own) > room or size + weight > limits.weight_bytes):
            yield group
            group, size = [], 0
        group += own
        size += weight
    if group:
        yield group


def run_together(
    bench: Workbench,
    experiments: Sequence[Experiment],
    samples: Samples,
    share: Share,
    tick: Callable[[float], None],
    shapes: Shapes | None = None,
) -> dict[Experiment, OutputError]:
    """Error of each experiment, from one graph that holds all of them, on the samples that fit the share of time.

    There is none where the time was over before the first sample was. `tick` is told after each how
    much of them is done. A graph that computes shapes is made for inputs of `shapes` alone.

    Raises:
        MixesBatchError: the network does not keep the elements of a batch apart, or it is not known to.
        NotRunnableError: ONNX Runtime cannot run the graph.
        DataError: a sample cannot be read.
    """
    fan = _any_size_or(bench, experiments, shapes or {})
    outputs = list(fan.order)
    # Each thread works on a sample of its own, while this one adds up what the others have done; where there are fewer
    # samples than cores, several work on one.
    at_once = sum(1 for _ in islice(samples(), cores()))
    # Convolutions run three times as fast in a layout of their own; what else a rewrite gains, it takes to make.
    convolves = any(layer.folded.layer.inputs.convolves for layer in bench.measured.layers)
    session = Session(fan.executable, max(cores() // max(at_once, 1), 1), bench.limits, optimised=convolves)

    def run(_number: int, sample: Mapping[str, Array]) -> tuple[Mapping[str, Array], list[Array]]:
        return sample, session.compute(sample, outputs)

    references = References(bench.measured.model, bench.outputs, bench.limits)
    share.begin()
    sums = {experiment: OutputErrorAccumulator(bench.alike) for experiment in experiments}
    patience = min(bench.limits.seconds_per_run, share.most)
    with closing(in_order(run, samples(), cores(), patience, session.stop)) as stream:
        try:
            for done, (sample, made) in enumerate(stream, start=1):
                if any(array.ndim and array.shape[0] != 1 for array in sample.values()):
                    raise MixesBatchError("a sample is a batch of several")
                parts = [blocks(values, fan.order[name]) for name, values in zip(outputs, made, strict=True)]
                float_parts = [part for part, _ in parts]
                for exact, own in parts:
                    check_same(exact, own.get(UNCHANGED, exact))
                reference = references.of(sample, float_parts)
                for experiment, accumulator in sums.items():
                    accumulator.add(reference, [own.get(experiment, part) for part, own in parts])
                tick(share.fraction(done))
                if not share.fits(done):
                    break
        except LateError as error:
            if patience == bench.limits.seconds_per_run:
                raise too_long(patience) from error
    return {experiment: accumulator.result() for experiment, accumulator in sums.items() if accumulator.samples}


def _any_size_or(bench: Workbench, experiments: Sequence[Experiment], shapes: Shapes) -> FanOut:
    """A graph for samples of any size, or where that cannot be, for those of one size."""
    try:
        return fan_out(bench, experiments)
    except MixesBatchError:
        if not shapes:
            raise
        return fan_out(bench, experiments, shapes)
