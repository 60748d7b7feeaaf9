"""Measured results of this tool beside ONNX Runtime's own quantised files, on the very same samples.

    python bench/against_quantizer.py FOLDER DATA [--samples 16] [--options FILE] [--preprocess NAME] [--only NAME ...]
        [--scheme NAME ...]

Each float model of FOLDER is measured as a check measures it: ranges by min-max of the samples, the variant run on the
same samples beside the float model. Beside it stands the file that ONNX Runtime's tools write, run twice: as it stands,
with graph optimisations off, and fused, with all of them on and integer kernels that do not saturate. A row holds the
SQNR in dB of the worst output and of all outputs pooled, and how far ours is above each of the two runs. The tools:

- static schemes: `quant_pre_process` and `quantize_static` (QDQ, U8S8, min-max, the same samples);
- dynamic ones: `quant_pre_process` and `quantize_dynamic` (weights S8);
- blocks: `MatMulNBitsQuantizer` on the file as it is, but for copies of weights by Identity, which it does not follow.

Where a pair differs by more than 0.5 dB or is missing, the reason stands behind it, as far as the runs show it:

- a bias is a whole number of steps and so is a product of codes, hence sums that lie on a tie between two codes, and
  the last bit of a float decides it. Without calibration too: a value that is rounded the other way early in a deep
  network changes all rounding behind it. Ours is run four times more with ranges that differ in the last bit, or
  weights where ranges are those of each run; where they spread as far as the pair is apart, nothing finer can be
  compared;
- the two runs of the file differ as much: fused kernels round elsewhere;
- one sample: where quantisation ruins a network, what it makes of a sample is chance;
- weights that the file does not store in codes: quant_pre_process puts a Cast behind float16 weights that are listed as
  inputs, and what it makes is quantised like an activation;
- a fold that waits: weights that are listed as inputs may be replaced by a caller, so ONNX Runtime folds nothing into
  them. Ours stands for the file after they are taken off the list.

DATA is what `--calibrate` takes. FILE is a JSON object with an entry for each model that needs another treatment, by
the name of its file without the ending: `{"name": {"data": PATH, "preprocess": NAME, "mean": [...], "resize": [...]}}`.
Its other keys are the fields of `Preprocessing`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.number_formats import UINT8
from onnxlint_q.analysis.observed.observers import OBSERVERS
from onnxlint_q.analysis.schemes import PER_CHANNEL_OPSET, SCHEMES, SEQUENCE_SCHEMES, Quantizer, Scheme
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.data.preprocess import Preprocessing, preset
from onnxlint_q.execute.data.source import Array, Sample, Source
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.executable import Executable, as_stored
from onnxlint_q.execute.quantiser import quantised
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, facts_of

ort.set_default_logger_severity(4)  # it warns of each weight that is listed as an input
logging.disable(logging.CRITICAL)  # its tools tell of each node
OURS, PLAIN, FUSED = "ours", "as it stands", "fused"
TIES = tuple(f"{OURS}, last bit {number}" for number in range(1, 5))
LEVELS = (0.5, 1.0)
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger"})
COMPARED = (*SEQUENCE_SCHEMES, SCHEMES["int8-dynamic-per-channel"])
Run = Callable[[Sample], Sequence[Array]]


@dataclass(frozen=True)
class Figures:
    """SQNR in dB; infinite for outputs that are identical. `without` is `worst` without each of the samples in turn."""

    worst: float
    pooled: float
    without: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One model under one scheme: the figures of each run that there is, and why others are missing.

    Attributes:
        late: whether ours folds what the file does not.
        unstored: layers whose weight the file quantises in every run, as if it were an activation.
    """

    model: str
    scheme: str
    figures: Mapping[str, Figures]
    missing: str = ""
    late: bool = False
    unstored: int = 0

    def apart(self, run: str) -> tuple[float, float] | None:
        """How far ours is above another run in dB, at the worst output and pooled; None where one is missing."""
        if not {OURS, run} <= self.figures.keys():
            return None
        ours, theirs = self.figures[OURS], self.figures[run]
        return _above(ours.worst, theirs.worst), _above(ours.pooled, theirs.pooled)

    @property
    def reason(self) -> str:
        """Why figures are missing, or what can be seen of why they differ."""
        if self.missing or not {PLAIN, FUSED} <= self.figures.keys():
            return self.missing
        apart = max(abs(db) for run in (PLAIN, FUSED) for db in self.apart(run) or ())
        if apart <= LEVELS[0]:
            return ""
        told = ["weights are inputs, so nothing folds in the file"] * self.late
        told += [f"{self.unstored} weights are behind a Cast in the file: one scale a tensor"] * (self.unstored > 0)
        plain, fused = self.figures[PLAIN], self.figures[FUSED]
        own = max(abs(_above(plain.worst, fused.worst)), abs(_above(plain.pooled, fused.pooled)))
        told += [f"the two runs of the file are {own:.1f} dB apart"] * (own > LEVELS[0])
        ties = [figures.worst for name, figures in self.figures.items() if name == OURS or name in TIES]
        spread = _above(max(ties), min(ties))
        told += [f"last bits of ranges or weights move ours from {min(ties):.1f} to {max(ties):.1f} dB"] * (
            2 * spread > apart
        )
        told += self._one_sample(apart)
        return "; ".join(told) or "not known"

    def _one_sample(self, apart: float) -> Iterator[str]:
        """That most of the difference is that of one sample, where it is."""
        ours, plain, fused = (self.figures[run].without for run in (OURS, PLAIN, FUSED))
        found = zip(ours, plain, fused, strict=True)
        best = min(found, key=lambda three: max(three) - min(three), default=None)
        if best is not None and 2 * max(abs(_above(best[0], other)) for other in best[1:]) < apart:
            told = ", ".join(f"{db:.1f}" for db in best)
            yield f"one sample makes most of it: without it ours and the two runs are {told} dB"


def _above(ours: float, theirs: float) -> float:
    return 0.0 if ours == theirs else ours - theirs


def made_by_quantizer(path: Path, samples: Iterator[Sample], scheme: Scheme) -> Executable:
    """The file that a user gets.

    Raises:
        NotRunnableError: there is none.
    """
    if scheme.quantizer is Quantizer.BLOCKS:
        return in_blocks(path, scheme)
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        try:
            quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        except Exception as error:  # of any type: what it meets in a graph is not foreseen
            raise NotRunnableError(f"quant_pre_process fails: {type(error).__name__}: {error}") from error
        if scheme.quantizer is Quantizer.STATIC:
            return quantised(as_stored(read_model(ready)), samples, per_channel=scheme.per_channel)
        made = Path(folder) / "made.onnx"
        try:
            quantize_dynamic(ready, made, per_channel=scheme.per_channel, weight_type=QuantType.QInt8)
        except Exception as error:  # of any type: what it meets in a graph is not foreseen
            raise NotRunnableError(f"quantize_dynamic fails: {type(error).__name__}: {error}") from error
        return Executable(onnx.load(made), {}, {})


def unstored(theirs: Executable) -> int:
    """Products of the file whose two operands are both made while it runs, so that no weight of theirs is stored."""
    nodes = theirs.proto.graph.node
    made = {output: node for node in nodes for output in node.output}
    products = (node for node in nodes if node.op_type in PRODUCTS)
    return sum(all(not _is_stored(name, made) for name in node.input[:2]) for node in products)


def without_weight(facts: Facts) -> int:
    """Products of two activations in the float model."""
    layers = sum(layer.folded.layer.node.op_type in PRODUCTS for layer in facts.layers)
    return sum(node.op_type in PRODUCTS for node in facts.model.nodes) - layers


def _is_stored(name: str, made: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a tensor, or the codes that it is dequantised from, lie in the file."""
    node = made.get(name)
    return node is None or (node.op_type == "DequantizeLinear" and node.input[0] not in made)


def in_blocks(path: Path, scheme: Scheme) -> Executable:
    """The file with its products in blocks.

    Raises:
        NotRunnableError: there is none.
    """
    size, symmetric = scheme.sharing.block_size, scheme.weights.symmetric
    proto = onnx.load(path)
    copies = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "Identity"}
    stored = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        node.input[:] = [copies[name] if copies.get(name) in stored else name for name in node.input]
    made = MatMulNBitsQuantizer(proto, block_size=size, is_symmetric=symmetric)
    made.process()
    if not any(node.op_type == "MatMulNBits" for node in made.model.model.graph.node):
        raise NotRunnableError("no MatMul has a constant matrix")
    return Executable(made.model.model, {}, {})


def nearby(bench: Workbench, seed: int) -> Workbench:
    """The bench with ranges that differ in the last bit of a float."""
    random, seen = np.random.default_rng(seed), bench.observations
    own = {place.like for place in bench.measured.placements if place.bounds is None}
    known = {tensor: seen.tensors[tensor] for tensor in own if seen is not None and tensor in seen.tensors}
    factors = 1 + 2.0**-22 * random.uniform(-1, 1, len(known))
    ends = {tensor: OBSERVERS[bench.observer](found, UINT8) for tensor, found in known.items()}
    moved = zip(ends.items(), factors, strict=True)
    return bench.with_ranges({tensor: (low * factor, high * factor) for (tensor, (low, high)), factor in moved})


def moved(executable: Executable, seed: int) -> Executable:
    """The executable with weights that differ in the last bit of a float."""
    random = np.random.default_rng(seed)
    return executable.with_weights(
        {
            name: (weight * (1 + 2.0**-22 * random.uniform(-1, 1, weight.shape))).astype(weight.dtype)
            for name, weight in executable.weights.items()
            if weight.dtype == np.float32
        }
    )


def loaded(executable: Executable, *, fused: bool) -> Run:
    """A session of a user's: with all graph optimisations, or with none.

    Raises:
        NotRunnableError: ONNX Runtime refuses the model.
    """
    levels = ort.GraphOptimizationLevel
    serialized = executable.proto.SerializeToString()
    for precise in ("1", "0"):  # not every model has kernels whose sums cannot saturate
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if fused else levels.ORT_DISABLE_ALL
        options.add_session_config_entry("session.x64quantprecision", precise)
        try:
            session = ort.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # pybind raises a dozen unrelated types
            failure = " ".join(str(error).split())
        else:
            return partial(_run, session)
    raise NotRunnableError(f"the file does not load: {failure}")


def _run(session: ort.InferenceSession, sample: Sample) -> Sequence[Array]:
    try:
        found: Sequence[Array] = session.run(None, dict(sample))
    except Exception as error:  # pybind raises a dozen unrelated types
        raise NotRunnableError(f"the file does not run: {' '.join(str(error).split())}") from error
    return found


def compared(bench: Workbench, runs: Mapping[str, Run], samples: Iterator[Sample]) -> dict[str, Figures]:
    """What each run leaves of the float model's outputs; one where none can be compared is left out."""
    exact = Session(bench.float_model, limits=bench.limits)
    references = References(bench.measured.model, bench.outputs, bench.limits)
    sums = {name: OutputErrorAccumulator() for name in runs}
    for sample in samples:
        reference = references.of(sample, exact.run(sample))
        for name, run in runs.items():
            sums[name].add(reference, run(sample))
    results = {name: found.result() for name, found in sums.items()}
    return {name: _figures(result) for name, result in results.items() if result.has_signal}


def _figures(error: OutputError) -> Figures:
    worst, pooled = (math.inf if db is None else db for db in (error.worst_db, error.sqnr_db))
    return Figures(worst, pooled, error.worst_without_db)


def pairs(path: Path, source: Source, count: int, schemes: Sequence[Scheme] = COMPARED) -> Iterator[Pair]:
    """One model under each scheme.

    Raises:
        OnnxlintError: the model or the data cannot be read.
        NotRunnableError: the float model does not run.
    """
    facts = facts_of(read_model(path), schemes)
    if not facts.is_float:
        return
    bench = workbench(facts)
    take = partial(source.take, facts.model.inputs, count)
    if bench.measured.fronts:
        for scheme in schemes:
            yield Pair(path.stem, scheme.name, {}, "the length of an output depends on values")
        return
    bench = bench.calibrated(observe(facts, source, count))
    for scheme in schemes:
        if not bench.can_run(Experiment(scheme)):
            yield Pair(path.stem, scheme.name, {}, "nothing is quantised")
            continue
        made = {OURS: bench.executable(Experiment(scheme))}
        for seed, name in enumerate(TIES):
            own = nearby(bench, seed) if scheme.is_calibrated else bench
            made[name] = own.executable(Experiment(scheme))
            if not scheme.is_calibrated:
                made[name] = moved(made[name], seed)
        runs: dict[str, Run] = {name: Session(own).run for name, own in made.items()}
        missing, behind = "", 0
        try:
            theirs = made_by_quantizer(path, take(), scheme)
            behind = max(unstored(theirs) - without_weight(facts), 0)
            runs |= {PLAIN: loaded(theirs, fused=False), FUSED: loaded(theirs, fused=True)}
        except NotRunnableError as error:
            old = scheme.needs_opset(facts.model.opset)
            missing = f"one scale a channel needs opset {PER_CHANNEL_OPSET}" if old else str(error)[:160]
        figures = compared(bench, runs, take())
        missing = missing or ("" if figures else "no output can be compared")
        yield Pair(path.stem, scheme.name, figures, missing, bench.measured.folds_late, behind)


def row(pair: Pair) -> str:
    """A line of the table."""
    figures = [pair.figures.get(run) for run in (OURS, PLAIN, FUSED)]
    shown = [f"{one.worst:.1f} | {one.pooled:.1f}" if one else "- | -" for one in figures]
    shown += [
        "- | -" if both is None else f"{both[0]:+.2f} | {both[1]:+.2f}" for both in map(pair.apart, (PLAIN, FUSED))
    ]
    return f"| {pair.model} | {pair.scheme} | {' | '.join(shown)} | {pair.reason} |"


def summary(found: Sequence[Pair], run: str) -> Iterator[str]:
    """Median, 95th percentile and counts of the differences to one of the two runs."""
    apart = [both for pair in found if (both := pair.apart(run)) is not None]
    for place, what in enumerate(("worst output", "pooled")):
        sizes = np.abs([both[place] for both in apart])
        if not sizes.size:
            continue
        over = ", ".join(f"{np.count_nonzero(sizes > level)} above {level:g} dB" for level in LEVELS)
        middle, most = np.percentile(sizes, [50, 95])
        yield f"{run}, {what}: {sizes.size} pairs, median {middle:.2f} dB, 95th percentile {most:.2f} dB, {over}"


def treatment(given: Mapping[str, Any], data: str, how: Preprocessing) -> Source:
    """The samples of one model."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    path = str(fields.pop("data", data))
    base = preset(fields.pop("preprocess")) if "preprocess" in fields else how
    return open_source(path, replace(base, **fields))


def main() -> None:
    """Print a row for each pair, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="FOLDER")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--options", type=Path, help="a JSON file with data and preprocessing by model")
    parser.add_argument("--preprocess", default="imagenet", help="of images, where the options say nothing else")
    parser.add_argument("--only", nargs="+", help="models to measure instead of all")
    parser.add_argument("--scheme", nargs="+", choices=SCHEMES, default=[scheme.name for scheme in COMPARED])
    chosen = parser.parse_args()
    options = json.loads(chosen.options.read_text()) if chosen.options else {}
    heads = [f"{run}, {what}" for run in (OURS, PLAIN, FUSED) for what in ("worst", "pooled")]
    heads += [f"ours above {run}, {what}" for run in (PLAIN, FUSED) for what in ("worst", "pooled")]
    print(f"| model | scheme | {' | '.join(heads)} | reason |\n|{'---|' * (len(heads) + 3)}")
    found: list[Pair] = []
    for path in sorted(chosen.models.glob("*.onnx")):
        if chosen.only is not None and path.stem not in chosen.only:
            continue
        start = time.perf_counter()
        try:
            source = treatment(options.get(path.stem, {}), chosen.data, preset(chosen.preprocess))
            for pair in pairs(path, source, chosen.samples, [SCHEMES[name] for name in chosen.scheme]):
                found.append(pair)
                print(row(pair), flush=True)
        except (OnnxlintError, NotRunnableError) as error:
            print(f"| {path.stem} | {' '.join(str(error).split())[:160]} |", flush=True)
        print(f"| {path.stem} | {time.perf_counter() - start:.0f} s |", flush=True)
    for run in (PLAIN, FUSED):
        print("\n".join(summary(found, run)))


if __name__ == "__main__":
    main()
