"""Two files on the same samples: every value that both have, in one streaming pass.

Memory does not grow with the samples. A network whose activations would take too much at once is run in groups of
values, once over the samples for each group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.grid import grid
from onnxlint_q.analysis.observed.compared import ClassifierError
from onnxlint_q.analysis.observed.readings import PartReading, QparamsReading
from onnxlint_q.analysis.outputs.output_kind import Output, find_outputs
from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.analysis.pairing.skeleton import Skeleton
from onnxlint_q.analysis.sizes.usual import INNER_LENGTH
from onnxlint_q.errors import DataError, ModelError
from onnxlint_q.execute.data.labels import label_of
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.executable import Executable, as_stored
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.readout import Readout, fed, matching, readout, with_fetched_outputs
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.graph import Model
from onnxlint_q.proof.comparison.metrics import ClassifierErrorAccumulator, TensorError, TensorErrorAccumulator
from onnxlint_q.proof.comparison.parts import JoinedPart, PartsAccumulator, joined_parts
from onnxlint_q.proof.comparison.qparams_error import QparamsAccumulator

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class PairErrors:
    """What running both files showed.

    Attributes:
        errors: by value of the quantised skeleton.
        qparams: of quantised values with one constant scale, by the same.
        parts: of values that join several things, by the same.
        mismatched: values that cannot be compared: of another shape in the other file when run, or codes whose scale
            comes later.
        output: over all outputs; `outputs` says how many there are that both have.
        classifier: None where the model is no classifier.
    """

    errors: Mapping[int, TensorError]
    qparams: Mapping[int, QparamsReading]
    parts: Mapping[int, tuple[PartReading, ...]]
    mismatched: frozenset[int]
    output: OutputError
    outputs: int
    classifier: ClassifierError | None
    samples: int


def run_both(
    pairing: Pairing,
    source: Source,
    count: int,
    labels: Sequence[int] | None = None,
    progress: Progress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> PairErrors:
    """Run `count` samples through both files and compare what they hold, within `limits`.

    Raises:
        ModelError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read or does not fit, or has no label although labels were given.
    """
    found = _outputs(pairing)
    outputs = [(value, other) for _, value, other in found]
    groups = list(_groups(pairing, limits.compared_values))
    references = References(pairing.reference.model, [output for output, _, _ in found], limits)
    state = _State(labels, references, joined_parts(pairing))
    for number, group in enumerate(groups):
        _run_group(pairing, group, outputs if number == 0 else [], source, count, state, progress, limits)
    if not state.output.samples:
        raise DataError(f"{source.name}: holds no samples; give at least one")
    return state.result(pairing, len(outputs))


def output_error(
    pairing: Pairing, source: Source, count: int, limits: Limits = DEFAULT_LIMITS, *, deployed: bool = False
) -> OutputError:
    """What the quantised file leaves at the outputs; `deployed` as of a Session.

    Raises:
        ModelError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read or does not fit.
    """
    found = _outputs(pairing)
    first, second = pairing.reference, pairing.quantized
    ours = Runner(first, [value for _, value, _ in found], limits)
    theirs = Runner(second, [other for *_, other in found], limits, deployed=deployed)
    state = _State(None, References(first.model, [output for output, *_ in found], limits), {})
    for index, sample in enumerate(source.take(first.model.inputs, count)):
        exact, other = ours.run(sample), theirs.run(fed(second.model, pairing.inputs, sample))
        state.compare_outputs(sample, [exact[a] for _, a, _ in found], [other[b] for *_, b in found], index)
    return state.output.result()


def _outputs(pairing: Pairing) -> list[tuple[Output, int, int]]:
    """What is an output of both models, with the value of each, reference first, in the order of its outputs.

    By what is paired; an output that no pair reaches goes by its name.
    """
    ours, theirs = pairing.reference, pairing.quantized
    by_value = {
        theirs.value_of[value.name]: value.name for value in theirs.model.outputs if value.name in theirs.value_of
    }
    partner = {reference: value for value, reference in pairing.values.items()}
    found = []
    for output in find_outputs(ours.model):
        value = ours.value_of.get(output.name)
        if value is None:
            continue
        other = partner.get(value)
        if other is None:
            other = theirs.value_of.get(output.name)
            other = None if other in pairing.values else other
        if other in by_value and other is not None:
            found.append((output, value, other))
    return found


def _groups(pairing: Pairing, most: int) -> Sequence[Sequence[int]]:
    """The paired tensors of the quantised skeleton, as many at a time as hold at most `most` values together."""
    groups: list[list[int]] = [[]]
    held = 0
    for value, reference in pairing.values.items():
        size = _size(pairing.reference, reference)
        if groups[-1] and held + size > most:
            groups.append([])
            held = 0
        groups[-1].append(value)
        held += size
    return groups


def _size(skeleton: Skeleton, value: int) -> int:
    shape = skeleton.model.shape(skeleton.values[value].tensors[0]) or ()
    return math.prod((1 if axis == 0 else INNER_LENGTH) if dim is None else dim for axis, dim in enumerate(shape))


def _run_group(
    pairing: Pairing,
    group: Sequence[int],
    outputs: Sequence[tuple[int, int]],
    source: Source,
    count: int,
    state: _State,
    progress: Progress,
    limits: Limits,
) -> None:
    first, second = pairing.reference, pairing.quantized
    values = dict.fromkeys([*group, *(other for _, other in outputs)])
    partner = {**pairing.values, **{other: value for value, other in outputs}}
    ours = Runner(first, [partner[value] for value in values], limits)
    theirs = Runner(second, list(values), limits)
    inputs = first.model.inputs
    available = source.available(inputs)
    planned = count if available is None else min(count, available)
    for index, sample in enumerate(source.take(inputs, count)):
        exact = ours.run(sample)
        other = theirs.run(fed(second.model, pairing.inputs, sample))
        for value in group:
            if theirs.integer[value] and not ours.integer[partner[value]]:
                state.mismatched.add(value)
            else:
                state.compare(second, value, exact[partner[value]], other[value])
        if outputs or not state.output.samples:
            state.compare_outputs(sample, [exact[a] for a, _ in outputs], [other[b] for _, b in outputs], index)
        progress("comparing", index + 1, planned)


class Runner:
    """A model with a session that gives chosen values.

    Attributes:
        integer: whether the last run gave a value as integers that no scale makes real, by index.
    """

    def __init__(
        self, skeleton: Skeleton, values: Sequence[int], limits: Limits = DEFAULT_LIMITS, *, deployed: bool = False
    ) -> None:
        self.model: Model = skeleton.model
        self.readouts: dict[int, Readout] = {v: readout(self.model, skeleton.values[v]) for v in values}
        self.integer: dict[int, bool] = {}
        executable, self.names = with_fetched_outputs(self.model, self.readouts.values())
        self.session = _loaded(self.model, executable, limits, deployed=deployed)

    def run(self, sample: Mapping[str, Array]) -> dict[int, Array]:
        """Real values by index."""
        try:
            fetched = self.session.run(sample, self.names) if self.names else []
        except NotRunnableError as error:
            raise ModelError(f"{self.model.name}: ONNX Runtime cannot run it: {error}") from error
        held = {**sample, **dict(zip(self.names, fetched, strict=True))}
        self.integer = {v: r.pair is None and held[r.tensor].dtype.kind in "iu" for v, r in self.readouts.items()}
        return {value: reading.read(self.model, held) for value, reading in self.readouts.items()}


def check_loads(model: Model) -> None:
    """Ask ONNX Runtime whether it takes a file.

    Raises:
        ModelError: it does not; with its reason.
    """
    _loaded(model, as_stored(model))


def _loaded(
    model: Model, executable: Executable, limits: Limits = DEFAULT_LIMITS, *, deployed: bool = False
) -> Session:
    try:
        return Session(executable, limits=limits, deployed=deployed)
    except NotRunnableError as error:
        raise ModelError(f"{model.name}: ONNX Runtime cannot load it: {error}") from error


@dataclass
class _State:
    """Sums over the samples."""

    labels: Sequence[int] | None
    references: References
    joined: Mapping[int, tuple[JoinedPart, ...]]
    errors: dict[int, TensorErrorAccumulator] = field(default_factory=dict)
    qparams: dict[int, QparamsAccumulator | None] = field(default_factory=dict)
    parts: dict[int, PartsAccumulator] = field(default_factory=dict)
    mismatched: set[int] = field(default_factory=set)
    output: OutputErrorAccumulator = field(default_factory=OutputErrorAccumulator)
    classifier: ClassifierErrorAccumulator = field(default_factory=ClassifierErrorAccumulator)

    def compare(self, skeleton: Skeleton, value: int, exact: Array, other: Array) -> None:
        aligned = matching(exact, other)
        if aligned is None:
            self.mismatched.add(value)
            return
        if value not in self.errors:
            self.errors[value] = TensorErrorAccumulator()
            self.qparams[value] = _qparams(skeleton, value)
            if value in self.joined:
                pair = skeleton.values[value].quantized
                held = grid(skeleton.model, pair) if pair is not None else None
                self.parts[value] = PartsAccumulator(self.joined[value], held)
        self.errors[value].add(exact, aligned)
        if value in self.parts:
            self.parts[value].add(exact, aligned)
        accumulator = self.qparams[value]
        if accumulator is not None:
            accumulator.add(exact)

    def compare_outputs(self, sample: Sample, exact: Sequence[Array], other: Sequence[Array], index: int) -> None:
        aligned = [matching(x, y) for x, y in zip(exact, other, strict=True)]
        reference = self.references.of(sample, exact)
        self.output.add(reference, [y if a is None else a for a, y in zip(aligned, other, strict=True)])
        if len(reference.classes) != 1:
            return
        (place,) = reference.classes
        found = aligned[place]
        scores = reference.scores(place, exact[place])
        others = None if found is None else reference.scores(place, found)
        if scores is None or others is None:
            return
        label = None if self.labels is None else label_of(self.labels, index, scores.shape[1])
        self.classifier.add(np.nan_to_num(scores), np.nan_to_num(others), label)

    def result(self, pairing: Pairing, outputs: int) -> PairErrors:
        output = self.output.result()
        errors = {v: sums.result() for v, sums in self.errors.items() if v not in self.mismatched}
        known = {pairing.values[v]: (pairing.quantized.values[v].tensors[0], e.sqnr_db) for v, e in errors.items()}
        readings = {value: sums.result() for value, sums in self.qparams.items() if sums is not None}
        return PairErrors(
            errors=errors,
            qparams={value: reading for value, reading in readings.items() if reading is not None},
            parts={value: sums.result(known) for value, sums in self.parts.items() if value in errors},
            mismatched=frozenset(self.mismatched),
            output=output,
            outputs=outputs,
            classifier=_classifier(self.classifier, output),
            samples=output.samples,
        )


def _classifier(sums: ClassifierErrorAccumulator, output: OutputError) -> ClassifierError | None:
    if not sums.rows or output.agreement is None:
        return None
    return ClassifierError(
        agreement=output.agreement,
        qmse=sums.squared / sums.rows,
        qce=sums.entropy / sums.rows,
        qkl=sums.divergence / sums.rows,
        top1=sums.top1 if sums.top1.rows else None,
    )


def _qparams(skeleton: Skeleton, value: int) -> QparamsAccumulator | None:
    pair = skeleton.values[value].quantized
    code_grid = grid(skeleton.model, pair) if pair is not None else None
    if pair is None or code_grid is None or pair.code_range is None:
        return None
    return QparamsAccumulator(code_grid, pair.code_range[0])
