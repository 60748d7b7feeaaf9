"""One streaming pass over the samples: what every tensor worth watching holds.

The tensors leave the session as outputs and are reduced where they lie, several samples at once on as many threads.
Memory holds the activations of the samples in work and the statistics; what grows with the samples are two numbers a
tensor and sample.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

from onnxlint_q.analysis.observations import Observations, TensorObservation
from onnxlint_q.analysis.placement import quantized_activations
from onnxlint_q.calibration.executable import PREFIX, as_stored
from onnxlint_q.calibration.progress import Progress, silent
from onnxlint_q.calibration.reduction import Collector, Layout, Reduced, Watched, reduce_sample
from onnxlint_q.calibration.session import Runs, Session, time_limit, too_long
from onnxlint_q.calibration.source import OPEN_SIDE, Sample, Source
from onnxlint_q.calibration.workers import LateError, cores, in_order
from onnxlint_q.errors import DataError
from onnxlint_q.facts import Facts
from onnxlint_q.graph import Model, Node, Role
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
# Activations that one session gives out at a time, and that all samples in work hold together.
_OUTPUT_BYTES, _WORK_BYTES = 96 << 20, 192 << 20
_T = onnx.TensorProto
# Element types that come out of a session as they are; others are cast to float inside.
_PLAIN = frozenset({0, _T.FLOAT, _T.FLOAT16, _T.DOUBLE, _T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.INT32})
# Their results have the channels behind the batch, or last, and so has what is computed from them value by value.
_CHANNELS_SECOND = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool"}
    | {"GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample", "QLinearConv", "QLinearGlobalAveragePool"}
)
_CHANNELS_LAST = frozenset({"MatMul", "Gemm", "LayerNormalization", "MatMulInteger", "QLinearMatMul", "QGemm"})
_MAX_STEPS = 16


def observe(facts: Facts, source: Source, count: int = 32, progress: Progress = silent) -> Observations:
    """Run `count` samples through the model as the file has it and collect what its tensors hold.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: the data does not fit the model or there is none.
    """
    available = source.available(facts.model.inputs)
    planned = count if available is None else min(count, available)
    (seen,) = _Pass(facts, planned, progress).over(source, source.take(facts.model.inputs, count), 1, lambda _: 0)
    if not seen.samples:
        raise DataError(f"{source.name}: holds no samples; give at least one")
    return seen


def observe_groups(
    facts: Facts, source: Source, groups: Mapping[int, int], progress: Progress = silent
) -> tuple[Observations, ...]:
    """The same for several groups of samples in one pass; `groups` gives a group, from 0 on, to sample numbers.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: the data does not fit the model, or there is too little of it.
    """
    numbers = sorted(groups)
    samples = source.pick(facts.model.inputs, numbers)
    seen = _Pass(facts, len(numbers), progress).over(
        source, samples, 1 + max(groups.values()), lambda position: groups[numbers[position]]
    )
    if sum(part.samples for part in seen) < len(numbers):
        raise DataError(
            f"{source.name}: holds fewer than the {numbers[-1] + 1} samples that were counted; "
            "remove files without samples, and leave the data as it is while it is read"
        )
    return seen


class _Part:
    """Some of the tensors, and the session that gives them; none where they are inputs."""

    def __init__(self, watched: Sequence[Watched], names: Sequence[str], session: Session | None) -> None:
        self.watched = watched
        self._names = names
        self._session = session
        self._layout = Layout((), ())

    def reduced(
        self, number: int, sample: Sample, options: ort.RunOptions, turn: AbstractContextManager[Any]
    ) -> Reduced:
        """The statistics of one sample."""
        if self._session is None:
            arrays = [sample[one.tensor] for one in self.watched]
        else:
            # Where nothing is watched the model's own outputs come, to see that it runs.
            arrays = self._session.compute(sample, options, self._names or None)[: len(self._names)]
        shapes = tuple(array.shape for array in arrays)
        layout = self._layout
        if layout.shapes != shapes:
            layout = self._layout = Layout(self.watched, shapes)
        with turn:
            return reduce_sample(layout, arrays, number)


class _Pass:
    """The sessions of one pass, loaded once."""

    def __init__(self, facts: Facts, planned: int, progress: Progress) -> None:
        self.planned = planned
        self.progress = progress
        self.inputs = facts.model.inputs
        given = {value.name for value in self.inputs}
        tensors = observed_tensors(facts)
        parts, largest = _parts(facts.model, [tensor for tensor in tensors if tensor not in given])
        self.threads = max(1, min(cores(), planned, _WORK_BYTES // max(largest, 1)))
        # Each thread works on a sample of its own; only cores that are left over help within a sample.
        share = max(1, cores() // self.threads)
        self.parts = [_Part(_watched(facts, [tensor for tensor in tensors if tensor in given]), (), None)]
        self.parts += [
            _Part(_watched(facts, list(part)), list(part.values()), _session(facts.model, part, share))
            for part in parts
        ]
        self.runs = Runs()
        # A reduction is many short calls into numpy, and threads that make them at once wait for each other's turn in
        # the interpreter more than they work. So while some reduce, the others run the model.
        self.turn = threading.Semaphore(max(1, self.threads // 2))

    def over(
        self, source: Source, samples: Iterable[Sample], groups: int, group_of: Callable[[int], int]
    ) -> tuple[Observations, ...]:
        """What was seen by group."""
        collected = [[Collector(part.watched) for part in self.parts] for _ in range(groups)]
        counts = [0] * groups
        with closing(in_order(self._reduced, samples, self.threads, time_limit(), self.runs.stop)) as stream:
            try:
                for number, sample in enumerate(stream):
                    group = group_of(number)
                    counts[group] += 1
                    for collector, reduced in zip(collected[group], sample, strict=True):
                        collector.add(reduced)
                    self.progress("calibrating", number + 1, self.planned)
            except LateError as error:
                raise too_long() from error
        available = source.available(self.inputs)
        return tuple(
            _observations(source, count, available, group) for count, group in zip(counts, collected, strict=True)
        )

    def _reduced(self, number: int, sample: Sample) -> list[Reduced]:
        """The statistics of one sample by part."""
        with self.runs.options(number) as options:
            return [part.reduced(number, sample, options, self.turn) for part in self.parts]


def _observations(source: Source, samples: int, available: int | None, parts: Sequence[Collector]) -> Observations:
    tensors: dict[str, TensorObservation] = {}
    non_finite: list[str] = []
    for part in parts:
        found, bad = part.result()
        tensors |= found
        non_finite += bad
    return Observations(source.name, source.synthetic, samples, available, tensors, tuple(non_finite))


def observed_tensors(facts: Facts) -> tuple[str, ...]:
    """The tensors worth watching: in a float model what would be quantised, in a quantised model the codes."""
    model = facts.model
    if facts.is_float:
        folded = [layer.folded for layer in facts.layers]
        wanted = [place.tensor for place in quantized_activations(model, folded) if not place.constant]
    else:
        wanted = [q.codes for q in facts.quantized if q.role is Role.ACTIVATION and not q.dynamic]
    order = {value.name: -1 for value in model.inputs}
    order |= {key: node.order for node in model.nodes if node.graph == ROOT for key in node.outputs}
    return tuple(sorted({key for key in wanted if key in order}, key=lambda key: (order[key], key)))


def _watched(facts: Facts, tensors: Sequence[str]) -> tuple[Watched, ...]:
    codes = {q.codes: q.code_range for q in facts.quantized}
    return tuple(Watched(tensor, channel_axis(facts.model, tensor), codes.get(tensor)) for tensor in tensors)


def channel_axis(model: Model, tensor: str) -> int | None:
    """The axis of a tensor's channels, from the operators before it; None if it has none or its rank is unknown.

    Convolutions, poolings and normalisations have them on axis 1, matrix products last; value by value they stay.
    """
    shape = model.shape(tensor)
    if shape is None or len(shape) < 2:
        return None
    last = len(shape) - 1
    for _ in range(_MAX_STEPS):
        node = model.producer(tensor)
        if node is None or node.op_type in _CHANNELS_SECOND:
            break
        if node.op_type in _CHANNELS_LAST:
            return last
        before = next((key for key in node.inputs if key and model.shape(key) == shape), None)
        if before is None:
            break
        tensor = before
    return 1 if last != 2 or (node is not None and node.op_type in _CHANNELS_SECOND) else last


def _parts(model: Model, tensors: Sequence[str]) -> tuple[list[dict[str, str]], int]:
    """Tensors by session, each with the name of the output that holds it, and the bytes of the largest part.

    Every output that a session gives is alive until its run ends, so what would be too much is computed in several
    runs. Dimensions that the file leaves open count as a batch of one or as a picture's side.
    """
    parts: list[dict[str, str]] = [{}]
    size = largest = 0
    for tensor in tensors:
        shape = model.shape(tensor) or ()
        own = 4 * math.prod((OPEN_SIDE if axis >= 2 else 1) if dim is None else dim for axis, dim in enumerate(shape))
        if size + own > _OUTPUT_BYTES and parts[-1]:
            parts.append({})
            size = 0
        known = model.types.get(tensor)
        plain = (known.elem_type if known else 0) in _PLAIN
        parts[-1][tensor] = tensor if plain else f"{PREFIX}float{len(parts[-1])}"
        size += own
        largest = max(largest, size)
    return parts, largest


def _session(model: Model, part: Mapping[str, str], threads: int) -> Session:
    """The model as stored, with some tensors as further outputs."""
    executable = as_stored(model)
    graph = executable.proto.graph
    have = {value.name for value in graph.output}
    for tensor, output in part.items():
        if output != tensor:
            graph.node.append(helper.make_node("Cast", [tensor], [output], to=_T.FLOAT))
        if output not in have:
            graph.output.append(helper.make_empty_tensor_value_info(output))
    return Session(executable, threads)
