"""One streaming pass over the samples: what every tensor worth watching holds.

The tensors leave the session as outputs and are reduced where they lie. Several samples are in work at once on as many
threads, and of a small network several in one run. Memory holds the activations of the samples in work and the
statistics; what grows with the samples are two numbers a tensor and sample.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations, TensorObservation
from onnxlint_q.analysis.sizes.usual import INNER_LENGTH, OPEN_SIDE
from onnxlint_q.cores import cores
from onnxlint_q.errors import DataError
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, check_same
from onnxlint_q.execute.batch.free_batch import Batch, batches, free_batch
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.executable import PREFIX, Executable, as_stored
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError, Session, too_long
from onnxlint_q.execute.stream.collector import Collector
from onnxlint_q.execute.stream.reduction import Layout, Reduced, reduce_samples, subset_size
from onnxlint_q.execute.stream.watched import rounded_tensors, watched
from onnxlint_q.execute.workers import LateError, in_order
from onnxlint_q.graph import Model, Value

Array = npt.NDArray[Any]
_T = onnx.TensorProto
# Element types that come out of a session as they are; others are cast to float inside.
_PLAIN = frozenset({0, _T.FLOAT, _T.FLOAT16, _T.DOUBLE, _T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.INT32})


def observe(
    measured: Measured,
    source: Source,
    count: int = 32,
    progress: Progress = silent,
    tensors: Sequence[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Observations:
    """Run samples through the model as the file has it and collect what its tensors hold.

    Args:
        measured: the model.
        source: where samples come from.
        count: how many to take, at most.
        progress: told after each sample.
        tensors: those of the main graph to watch; by default what is rounded, see `rounded_tensors`.
        limits: how long a run may take, and the bounds of the pass.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: the data does not fit the model or there is none.
    """
    available = source.available(measured.model.inputs)
    planned = count if available is None else min(count, available)
    wanted = rounded_tensors(measured) if tensors is None else tensors
    samples = partial(source.take, measured.model.inputs, count)
    (seen,) = _Pass(measured, wanted, planned, progress, limits=limits).over(source, samples, lambda _: 0)
    if not seen.samples:
        raise DataError(f"{source.name}: holds no samples; give at least one")
    return seen


def observe_groups(
    measured: Measured,
    source: Source,
    groups: Mapping[int, int],
    progress: Progress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Observations, ...]:
    """The same for several groups of samples in one pass; `groups` gives a group, from 0 on, to sample numbers.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: the data does not fit the model, or there is too little of it.
    """
    numbers = sorted(groups)
    samples = partial(source.pick, measured.model.inputs, numbers)
    seen = _Pass(measured, rounded_tensors(measured), len(numbers), progress, 1 + max(groups.values()), limits).over(
        source, samples, lambda position: groups[numbers[position]]
    )
    if sum(part.samples for part in seen) < len(numbers):
        raise DataError(
            f"{source.name}: holds fewer than the {numbers[-1] + 1} samples that were counted; "
            "remove files without samples, and leave the data as it is while it is read"
        )
    return seen


class _Part:
    """Some of the tensors: inputs, and what a session gives."""

    def __init__(
        self, measured: Measured, given: Sequence[str], outputs: Mapping[str, str], session: Session, subset: int
    ) -> None:
        self.watched = watched(measured, [*given, *outputs])
        self._given = given
        self._outputs = list(outputs.values())
        self._session = session
        self._subset = subset
        self._layout = Layout((), (), subset)

    def stop(self) -> None:
        """Let runs that are on their way end."""
        self._session.stop()

    def reduced(self, batch: Batch, sample: Sample, turn: AbstractContextManager[Any]) -> list[Reduced]:
        """The statistics of each sample of a batch, which is `sample`.

        Raises:
            MixesBatchError: the tensors of a batch are not those of its samples.
            NotRunnableError: the run fails.
        """
        # Where nothing is watched the model's own outputs come, to see that it runs.
        computed = self._session.compute(sample, self._outputs or None)
        arrays = [*(sample[name] for name in self._given), *computed[: len(self._outputs)]]
        count = len(batch.samples)
        if count > 1 and any(array.shape[:1] != (count,) for array in arrays):
            raise MixesBatchError("a tensor has another shape in a batch")
        shapes = tuple(array.shape if count == 1 else (1, *array.shape[1:]) for array in arrays)
        layout = self._layout
        if layout.shapes != shapes:
            layout = self._layout = Layout(self.watched, shapes, self._subset)
        with turn:
            made = reduce_samples(layout, arrays, batch.first, count)
        if count > 1 and batch.first == 0:  # the last sample has all others in front of it
            last = Batch(count - 1, batch.samples[-1:])
            _check_same(self.reduced(last, last.together(), turn)[0], made[-1])
        return made


def _check_same(alone: Reduced, made: Reduced) -> None:
    """Raise MixesBatchError if a sample in a batch is not what it is alone.

    Codes may differ by a rounding, and so may what is computed from them.
    """
    if alone.layout.shapes != made.layout.shapes:
        raise MixesBatchError("a tensor has another shape in a batch")
    for place in alone.layout.places.values():
        if not place.watched.is_rounded:
            ends = (np.concatenate([one.low[place.extremes], one.high[place.extremes]]) for one in (alone, made))
            check_same(*ends)


class _Pass:
    """One pass, the samples of a small network in batches."""

    def __init__(
        self,
        measured: Measured,
        tensors: Sequence[str],
        planned: int,
        progress: Progress,
        groups: int = 1,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.measured = measured
        self.limits = limits
        self.planned = planned
        self.groups = groups
        self.progress = progress
        self.inputs = measured.model.inputs
        given = {value.name for value in self.inputs}
        computed = [tensor for tensor in tensors if tensor not in given]
        bounds = limits.stream
        self.outputs, largest = _parts(measured.model, computed, bounds.output_bytes)
        spread = cores() if bounds.cores is None else bounds.cores
        self.threads = max(1, min(spread, planned, bounds.work_bytes // max(largest, 1)))
        # Each thread works on samples of its own; only cores that are left over help within a sample.
        self.share = max(1, spread // self.threads)
        most = max(1, min(bounds.batch, bounds.batch_bytes // max(largest, 1), planned // self.threads))
        self.executable, self.most = _batched(measured.model, computed, most)
        self.given = [tensor for tensor in tensors if tensor in given]
        # A reduction is many short calls into numpy, and threads that make them at once wait for each other's turn in
        # the interpreter more than they work. So while some reduce, the others run the model.
        self.turn = threading.Semaphore(max(1, self.threads // 2))

    def over(
        self, source: Source, samples: Callable[[], Iterable[Sample]], group_of: Callable[[int], int]
    ) -> tuple[Observations, ...]:
        """What was seen by group."""
        try:
            return self._over(source, samples(), group_of)
        except (MixesBatchError, NotRunnableError):
            if self.most == 1:
                raise
        # One by one, in the model as it is: what is wrong with that is told.
        self.executable, self.most = as_stored(self.measured.model), 1
        return self._over(source, samples(), group_of)

    def _over(
        self, source: Source, samples: Iterable[Sample], group_of: Callable[[int], int]
    ) -> tuple[Observations, ...]:
        parts = self._parts()
        collectors = self.groups * len(parts)
        bounds = self.limits.stream
        collected = [[Collector(part.watched, collectors, bounds) for part in parts] for _ in range(self.groups)]
        counts = [0] * self.groups
        work = batches(samples, self.most, _values(self.inputs))
        reduced_batch, patience = partial(self._reduced, parts), self.most * self.limits.seconds_per_run
        with closing(in_order(reduced_batch, work, self.threads, patience, partial(_stop, parts))) as stream:
            try:
                for number, reduced in enumerate(itertools.chain.from_iterable(stream)):
                    group = group_of(number)
                    counts[group] += 1
                    for collector, part in zip(collected[group], reduced, strict=True):
                        collector.add(part)
                    self.progress("calibrating", number + 1, self.planned)
            except LateError as error:
                raise too_long(self.limits.seconds_per_run) from error
        available = source.available(self.inputs)
        return tuple(
            _observations(source, count, available, group) for count, group in zip(counts, collected, strict=True)
        )

    def _parts(self) -> list[_Part]:
        """The sessions, loaded."""
        subset = subset_size(self.planned // self.groups, self.limits.stream)
        return [
            _Part(
                self.measured,
                () if number else self.given,
                outputs,
                _session(self.executable, outputs, self.share),
                subset,
            )
            for number, outputs in enumerate(self.outputs)
        ]

    def _reduced(self, parts: Sequence[_Part], _number: int, batch: Batch) -> list[tuple[Reduced, ...]]:
        """The statistics of each sample of a batch by part."""
        if self.most > 1 and not batch.is_of_ones:
            raise MixesBatchError("a sample is a batch of several")
        sample = batch.together()
        by_part = [part.reduced(batch, sample, self.turn) for part in parts]
        return list(zip(*by_part, strict=True))


def _stop(parts: Sequence[_Part]) -> None:
    for part in parts:
        part.stop()


def _observations(source: Source, samples: int, available: int | None, parts: Sequence[Collector]) -> Observations:
    tensors: dict[str, TensorObservation] = {}
    non_finite: list[str] = []
    for part in parts:
        found, bad = part.result()
        tensors |= found
        non_finite += bad
    return Observations(source.name, source.synthetic, samples, available, tensors, tuple(non_finite))


def _parts(model: Model, tensors: Sequence[str], most_bytes: int) -> tuple[list[dict[str, str]], int]:
    """Tensors by session, each with the name of the output that holds it, and the bytes of the largest part.

    Every output that a session gives is alive until its run ends, so what would take more than `most_bytes` is computed
    in several runs.
    """
    parts: list[dict[str, str]] = [{}]
    size = largest = 0
    for tensor in tensors:
        own = 4 * _size(model.shape(tensor) or (), INNER_LENGTH)
        if size + own > most_bytes and parts[-1]:
            parts.append({})
            size = 0
        known = model.types.get(tensor)
        plain = (known.elem_type if known else 0) in _PLAIN
        parts[-1][tensor] = tensor if plain else f"{PREFIX}float{len(parts[-1])}"
        size += own
        largest = max(largest, size)
    return parts, largest


def _batched(model: Model, tensors: Sequence[str], most: int) -> tuple[Executable, int]:
    """The model as stored, and how many samples it takes at a time, at most `most`."""
    executable = as_stored(model)
    if most > 1:
        with contextlib.suppress(MixesBatchError):
            return free_batch(model, executable, tensors), most
    return executable, 1


def _values(inputs: Sequence[Value]) -> int:
    """How many values a sample of the inputs is taken to hold, when the room for activations is reckoned."""
    return sum(_size(value.type.shape or (), OPEN_SIDE) for value in inputs)


def _size(shape: tuple[int | None, ...], side: int) -> int:
    """Values of a tensor; a dimension left open counts as a batch of one, or from the third on as a side."""
    return math.prod((side if axis >= 2 else 1) if dim is None else dim for axis, dim in enumerate(shape))


def _session(executable: Executable, part: Mapping[str, str], threads: int) -> Session:
    """The model with some tensors as further outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    graph = proto.graph
    have = {value.name for value in graph.output}
    for tensor, output in part.items():
        if output != tensor:
            graph.node.append(helper.make_node("Cast", [tensor], [output], to=_T.FLOAT))
        if output not in have:
            graph.output.append(helper.make_empty_tensor_value_info(output))
    return Session(replace(executable, proto=proto), threads)
