"""The use case of `inspect`: one file or two in, the tables of what stands in them and what a run saw of it out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.errors import ModelError, UsageError, did_you_mean
from onnxlint_q.execute.child import ChildEndedError, run_apart
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.first_run import run_once
from onnxlint_q.execute.limits import USUAL, Asked
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError, TooLongError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.stream.watched import rounded_tensors
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.element_types import CODE_RANGES, FLOATS
from onnxlint_q.graph.loading.external import stored_bytes
from onnxlint_q.graph.names import ROOT
from onnxlint_q.workflow.reading.activations import DEFAULT_SCHEME, Scales, activation_rows
from onnxlint_q.workflow.reading.columns import COLUMNS, columns_of, worst_first
from onnxlint_q.workflow.reading.file import file_facts
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Inspection,
    RoundedValues,
    SideBySide,
)
from onnxlint_q.workflow.reading.qparams import qparams_rows
from onnxlint_q.workflow.reading.sheet import nodes_named, rounded_values, tensor_sheet, unknown_tensor
from onnxlint_q.workflow.reading.sides import side_by_side
from onnxlint_q.workflow.reading.values import (
    CalibrationSummary,
)
from onnxlint_q.workflow.reading.weights import norm_rows, weight_rows
from onnxlint_q.workflow.results import TakenShape
from onnxlint_q.workflow.sizes import notes_on, settled

_T = onnx.TensorProto
_NAMED = 4
_NUMBERS = frozenset({*FLOATS, *CODE_RANGES, _T.INT64, _T.UINT32, _T.UINT64, _T.BOOL})


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """What the user asked for.

    Attributes:
        source: samples to run; None to tell what stands in the file.
        samples: how many.
        top: rows of a table to show.
        by: the column to sort by; empty for each table's own.
        tensor: tell of this tensor, or of the operator of this name, only; empty for all.
        fresh: a process apart is a fresh interpreter, never a fork.
        values: values to round at the scale and zero point of that tensor, or of the worst one.
        input_shapes: shapes that inputs are to have, by name; of two files, each takes those of its inputs.
        asked: what it may take.
        configuration: the file that said something of the data; None for none.
    """

    source: Source | None = None
    samples: int = 32
    top: int = 5
    by: str = ""
    tensor: str = ""
    values: tuple[float, ...] = ()
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fresh: bool = False
    asked: Asked = USUAL
    configuration: Path | None = None


@dataclass(frozen=True, eq=False)
class _File:
    """One file with all that is known of it."""

    measured: Measured
    observations: Observations | None
    scales: Scales
    told: InspectedModel


def inspect_apart(
    paths: Sequence[Path], request: InspectRequest, progress: Progress = silent, called: Sequence[str] = ()
) -> Inspection:
    """`inspect` in a process of its own, so that a crash of native code is an error like others.

    Raises:
        ModelError, DataError, UsageError: as `inspect`; the first also where the process is ended.
    """
    try:
        names = [name or str(path) for path, name in zip(paths, called or [""] * len(paths), strict=True)]
        task = partial(inspect, tuple(paths), request, called=tuple(called))
        budget = request.asked.for_models(sum(map(stored_bytes, paths)))
        return run_apart(task, progress, fresh=request.fresh, budget=budget)
    except ChildEndedError as error:
        raise ModelError(
            f"{' and '.join(names)}: could not be inspected: the process {error}; {error.advice}"
        ) from error


def inspect(
    paths: Sequence[Path], request: InspectRequest, progress: Progress = silent, called: Sequence[str] = ()
) -> Inspection:
    """Read one file, or two to tell side by side; `called` names those that are no files of the user's.

    Raises:
        ModelError: a file cannot be read or trusted, or run.
        DataError: the samples cannot be read or do not fit.
        UsageError: a name or a column is unknown, or values have no scale to be rounded at.
    """
    if request.by and request.by not in COLUMNS:
        raise UsageError(f"--by {request.by!r}: choose from {', '.join(COLUMNS)}{did_you_mean(request.by, COLUMNS)}")
    called = called or [""] * len(paths)
    clock = time.perf_counter()
    progress("reading", 0, 0)
    taken = [
        _taken(read_model(path, name), request, alone=len(paths) == 1) for path, name in zip(paths, called, strict=True)
    ]
    measured = [measure(model, DEFAULT_SCHEMES) for model, _ in taken]
    read = time.perf_counter()
    if request.tensor and not any(_has(one, request.tensor) for one in measured):
        raise unknown_tensor(request.tensor, measured)
    files = [_file(one, inputs, request, progress) for one, (_, inputs) in zip(measured, taken, strict=True)]
    _check_column(request.by, files)
    seconds = {"read": read - clock}
    if request.source is not None:
        seconds["run"] = time.perf_counter() - read
    return Inspection(
        models=tuple(_told(files, request)),
        top=request.top,
        by=request.by,
        side_by_side=_sides(files, request) if not request.tensor else None,
        seconds=seconds,
    )


def _has(measured: Measured, name: str) -> bool:
    return name in measured.model.flow or bool(nodes_named(measured, name))


def _taken(model: Model, request: InspectRequest, *, alone: bool) -> tuple[Model, tuple[TakenShape, ...]]:
    """The model with a shape for each open input."""
    own = {value.name for value in model.inputs}
    shapes = {name: shape for name, shape in request.input_shapes.items() if alone or name in own}
    try:
        return settled(model, shapes, request.source, request.asked if request.source is not None else None)
    except TooLongError as error:
        raise ModelError(f"{model.name}: {error}") from error


def _file(measured: Measured, inputs: Sequence[TakenShape], request: InspectRequest, progress: Progress) -> _File:
    model = measured.model
    seen = _observed(measured, request, progress)
    scales: Scales = {}
    if seen is not None and measured.is_float:
        scales = workbench(measured).calibrated(seen).scales(DEFAULT_SCHEME)
    told = InspectedModel(
        path=model.name,
        sha256=model.sha256,
        opset=model.opset,
        format=measured.format.value,
        quantised=not measured.is_float,
        layers=len(measured.layers),
        qparams=qparams_rows(measured, seen),
        activations=activation_rows(measured, seen, scales),
        weights=weight_rows(measured) if measured.is_float else (),
        norms=norm_rows(measured),
        calibration=_calibration(measured, seen, request.source),
        file=file_facts(model, request.configuration),
    )
    return _File(measured, seen, scales, replace(told, notes=(*notes_on(inputs), *_notes(measured, told, seen))))


def _observed(measured: Measured, request: InspectRequest, progress: Progress) -> Observations | None:
    if request.source is None:
        return None
    tensors = dict.fromkeys(rounded_tensors(measured))
    tensors |= dict.fromkeys(_runnable(measured, request.tensor) if request.tensor else ())
    try:
        run_once(measured, request.source, request.asked)
        return observe(measured, request.source, request.samples, progress, tuple(tensors))
    except NotRunnableError as error:
        raise ModelError(
            f"{measured.model.name}: ONNX Runtime cannot run the model: {error}; leave out --calibrate to see what the "
            "file alone tells"
        ) from error


def _runnable(measured: Measured, name: str) -> Iterator[str]:
    """The tensors of that name, or of the operator of that name, that a run can give out as numbers."""
    model = measured.model
    keys = [name, *(key for node in nodes_named(measured, name) for key in node.outputs)]
    inputs = {value.name for value in model.inputs}
    for key in keys:
        node, known = model.producer(key), model.types.get(key)
        computed = node is not None and node.graph == ROOT and not model.is_constant(key)
        if (computed or key in inputs) and known is not None and known.elem_type in _NUMBERS:
            yield key


def _calibration(measured: Measured, seen: Observations | None, source: Source | None) -> CalibrationSummary | None:
    if seen is None or source is None:
        return None
    return CalibrationSummary(seen.source, source.prepared(measured.model.inputs), seen.samples, 0, seen.synthetic)


def _notes(measured: Measured, told: InspectedModel, seen: Observations | None) -> Iterator[str]:
    if measured.coded:
        yield f"its {measured.coded} layers compute with codes whose scales are not in the file"
    dynamic = sum(pair.dynamic for pair in measured.quantized)
    if dynamic:
        yield (
            f"{dynamic} activations get their scale at run time"
            if dynamic > 1
            else ("1 activation gets its scale at run time")
        )
    if seen is not None and seen.non_finite:
        names, more = ", ".join(map(repr, seen.non_finite[:4])), len(seen.non_finite) - 4
        yield f"left out, as there was NaN or infinity: {names}" + (f" and {more} more" if more > 0 else "")
    yield from _not_read(measured)
    broken = sum(layer.weight.non_finite > 0 for layer in measured.weights)
    if broken and told.weights:
        yield f"NaN or infinity in {broken} weight{'s' * (broken > 1)}; the channels that hold it are left out"


def _not_read(measured: Measured) -> Iterator[str]:
    """Operators with constants that no table has: no layers, and no pairs of scale and zero point."""
    model = measured.model
    read = {layer.node for layer in measured.layers} | {pair.node for pair in measured.quantized}
    left = Counter(
        node.qualified_type
        for node in model.nodes
        if node not in read
        and (node.operator.weight_inputs or not node.operator.known)
        and any(key in model.constants for key in node.inputs)
    )
    if left:
        named = ", ".join(f"{count} {name}" for name, count in left.most_common(_NAMED))
        more = f" and {len(left) - _NAMED} more types" if len(left) > _NAMED else ""
        yield f"not in the tables, because inspect does not read their constants: {named}{more}"


def _check_column(by: str, files: Sequence[_File]) -> None:
    """Raise UsageError for a column that no table of these files has."""
    known = {name for file in files for rows in _tables(file.told) for name in columns_of(rows)}
    if by and known and by not in known:
        needs = "; with --calibrate there are more" if not any(file.told.activations for file in files) else ""
        raise UsageError(f"--by {by}: no table here has this column; choose from {', '.join(sorted(known))}{needs}")


def _tables(told: InspectedModel) -> tuple[Sequence[object], ...]:
    return told.qparams, told.activations, told.weights, told.norms


def _told(files: Sequence[_File], request: InspectRequest) -> Iterator[InspectedModel]:
    """Each file, with what was asked of one tensor."""
    if request.values:
        for file, rounded in zip(files, _rounded(files, request), strict=True):
            yield replace(file.told, rounded=rounded)
        return
    for file in files:
        sheet = tensor_sheet(file.measured, file.told, file.observations, request.tensor) if request.tensor else None
        yield replace(file.told, sheet=sheet)


def _rounded(files: Sequence[_File], request: InspectRequest) -> Sequence[RoundedValues | None]:
    """In each file that has a scale for it; only where none has, that is an error."""
    problems: list[UsageError] = []
    told: list[RoundedValues | None] = []
    for file in files:
        try:
            name = request.tensor or _worst(file, request.by)
            told.append(rounded_values(file.measured, file.scales, name, request.values))
        except UsageError as error:
            problems.append(error)
            told.append(None)
    if problems and not any(told):
        raise problems[0]
    return told


def _worst(file: _File, by: str) -> str:
    """The activation that comes first in its table, of those with one scale and zero point."""
    seen = [row for row in file.told.activations if row.scale is not None]
    if seen:
        return str(worst_first(seen, by)[0].tensor)
    pairs = [row for row in file.told.qparams if row.kind == "activation" and row.scales == 1]
    if pairs:
        return str(worst_first(pairs, by)[0].codes)
    raise UsageError(
        f"--values: {file.told.path} has no scale for any activation; give samples with --calibrate, or name a tensor "
        "that is quantised"
    )


def _sides(files: Sequence[_File], request: InspectRequest) -> SideBySide | None:
    if len(files) != 2:
        return None
    first, second = files
    return side_by_side((first.measured, second.measured), (first.told, second.told), request.by)
