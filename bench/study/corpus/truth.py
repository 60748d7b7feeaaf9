"""What quantisation does to one network, measured by this package on the network's own samples."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES, Scheme
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.workflow.assembly.outputs import result_of_run
from onnxlint_q.workflow.results import Basis

STATIC = tuple(SCHEMES[name] for name in ("int8-per-tensor", "int8-per-channel", "int4-weights", "int4-blocks"))
DYNAMIC = {"int8-dynamic": False, "int8-dynamic-per-channel": True}
MOST_RANGES = 48
MOST_LAYER_SAMPLES = 24


@dataclass(frozen=True)
class Split:
    """Samples for the ranges, the last third but at most 48, and those before them for the figures."""

    ranges: ArraySource
    figures: ArraySource
    calibrated: int
    judged: int


def split(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Split:
    """Part the samples; an input with a single value is the same in all."""
    count = max(map(len, arrays.values()))
    calibrated = min(count // 3, MOST_RANGES)
    last, first = slice(count - calibrated, count), slice(count - calibrated)
    parts = [{key: a[part] if len(a) == count else a for key, a in arrays.items()} for part in (last, first)]
    return Split(ArraySource(name, parts[0]), ArraySource(name, parts[1]), calibrated, count - calibrated)


def end_to_end(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, dynamic: bool) -> dict[str, Any]:
    """Everything quantised, by scheme, in the form of the truth files; `layers` is empty.

    Args:
        path: of the model.
        arrays: samples by input name.
        dynamic: whether to measure `quantize_dynamic` as well, one scale a tensor and a channel.
    """
    bench, parts = _calibrated(path, arrays)
    samples = partial(parts.figures.samples, bench.measured.model.inputs)
    variants = {scheme.name: partial(bench.executable, Experiment(scheme)) for scheme in _runnable(bench)}
    if dynamic:
        variants |= {name: partial(_dynamic, path, per_channel=share) for name, share in DYNAMIC.items()}
    found: dict[str, Any] = {}
    for name, build in variants.items():
        try:
            found[name] = _figures(name, run_variants(bench, {name: build}, samples)[name])
        except NotRunnableError as error:
            found[name] = {"failed": " ".join(str(error).split())[:300]}
    found |= {new: found[old] for new, old in _OLD_NAMES.items() if old in found}
    return {
        "model": path.name,
        "samples": parts.calibrated + parts.judged,
        "calibration_samples": parts.calibrated,
        "end_to_end_samples": parts.judged,
        "onnxruntime": ort.__version__,
        "layers": [],
        "end_to_end": found,
    }


_OLD_NAMES = {"per_tensor": "int8-per-tensor", "per_channel": "int8-per-channel"}


def layers(path: Path, arrays: Mapping[str, npt.NDArray[Any]], seconds: float) -> list[dict[str, Any]]:
    """Each weight quantised alone, one scale a tensor, as far as the seconds reach."""
    bench, parts = _calibrated(path, arrays)
    kept = {key: values[:MOST_LAYER_SAMPLES] for key, values in parts.figures.arrays.items()}
    samples = partial(ArraySource(path.stem, kept).samples, bench.measured.model.inputs)
    single = {layer: Experiment.on_weight(INT8_PER_TENSOR, layer.output) for layer in bench.measured.layers}
    errors = run_experiments(bench, single.values(), samples, allowance=Allowance(seconds))
    return [
        {
            "output": layer.output,
            "node": layer.node.name,
            "op_type": layer.folded.layer.op_type,
            "group": layer.folded.layer.group,
            "depthwise": layer.depthwise,
            "weight_only_sqnr_db": errors[experiment].sqnr_db,
            "weight_only_sqnr_worst_db": errors[experiment].worst_db,
            "samples": errors[experiment].samples,
        }
        for layer, experiment in single.items()
        if experiment in errors
    ]


def _calibrated(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[Workbench, Split]:
    parts = split(path.stem, arrays)
    facts = facts_of(read_model(path), STATIC)
    if not facts.is_float:
        raise NotRunnableError("it is quantised already")
    return workbench(facts).calibrated(observe(facts, parts.ranges, parts.calibrated)), parts


def _runnable(bench: Workbench) -> Iterator[Scheme]:
    for scheme in STATIC:
        covered = any(scheme.covers(layer.folded.layer) for layer in bench.measured.layers)
        if covered and bench.can_run(Experiment(scheme)):
            yield scheme


def _dynamic(path: Path, *, per_channel: bool) -> Executable:
    with tempfile.TemporaryDirectory() as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "made.onnx"
        try:
            quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
            quantize_dynamic(ready, made, per_channel=per_channel, weight_type=QuantType.QInt8)
        except Exception as error:  # of any type: what it meets in a graph is not foreseen
            raise NotRunnableError(f"quantize_dynamic fails: {type(error).__name__}: {error}") from error
        return Executable(onnx.load(made), {}, {})


def _figures(scheme: str, error: OutputError) -> dict[str, Any]:
    result = result_of_run(scheme, error, Basis.MEASURED, VerdictLevels(), by_class=True)
    return {
        "sqnr_db": error.sqnr_db,
        "sqnr_worst_db": error.worst_db,
        **({} if result.agreement is None else {"agreement": result.agreement}),
        "verdict": None if result.verdict is None else str(result.verdict),
        "note": result.note,
        "outputs": [asdict(output) for output in result.outputs],
    }
