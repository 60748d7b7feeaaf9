"""How much the choice of samples, their number, and the observer change the quantised model.

The data is cut into disjoint random subsets, as the trials of Yun & Wong (arXiv 2104.11849, section 3), and every
calibration is judged on the same further samples. Each subset is observed in groups of 1, 1, 2, 4, ... samples, in one
pass for all: statistics add up, so every size of every subset comes from that pass. One session a scheme serves all
calibrations, because they differ in scales and zero points alone, and those are handed to each run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.observed.observations import Observations, merged
from onnxlint_q.analysis.observed.observers import OBSERVERS
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream.observe import observe_groups
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.proof.trial_figures import TrialFigure, Trials

_SEED = 0
# A change that nobody would notice, whatever its sign.
_NOTICED_DB = 0.5


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Which subset, how many of its samples, which observer."""

    trial: int
    samples: int
    observer: str


Setting = tuple[_Calibration, Scheme]


def run_trials(
    bench: Workbench,
    source: Source,
    samples: int,
    count: int,
    levels: VerdictLevels,
    progress: Progress = silent,
) -> Trials:
    """Calibrate on `count` disjoint subsets of `samples` samples each, and compare.

    Where the data is too little for that, subsets and held-out samples become smaller alike. Schemes that leave
    activations in float have nothing to calibrate and are left out.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: there are fewer samples than subsets and one more, or one cannot be read.
    """
    measured = bench.measured
    available = source.available(measured.model.inputs, enough=(count + 1) * samples)
    size = samples if available is None else min(samples, available // (count + 1))
    if size < 1:
        raise DataError(
            f"{source.name}: holds {available} samples, but {count} trials need at least {count + 1}; lower --trials"
        )
    parts = _part_sizes(size)
    order = np.random.default_rng(_SEED).permutation((count + 1) * size if available is None else available)
    held_out = sorted(int(number) for number in order[:size])
    groups = _groups(order[size : (count + 1) * size], count, parts)
    observations = observe_groups(measured, source, groups, progress, bench.limits)
    benches = _calibrated(bench, observations, len(parts))
    errors = _measure(bench, source, held_out, benches, progress)
    return _told(errors, Trials(count, size, size, (), ()), bench.observer, levels)


def _part_sizes(size: int) -> list[int]:
    """1, 1, 2, 4, ... that add up to `size`; the last takes what is left."""
    parts = [1]
    while (total := sum(parts)) < size:
        parts.append(min(total, size - total))
    return parts


def _groups(numbers: npt.NDArray[Any], count: int, parts: Sequence[int]) -> dict[int, int]:
    """A group for each sample number: subset by subset, part by part."""
    sizes = list(parts) * count
    group = np.repeat(np.arange(len(sizes)), sizes)
    return {int(number): int(index) for number, index in zip(numbers, group, strict=True)}


def _calibrated(bench: Workbench, observations: Sequence[Observations], parts: int) -> dict[_Calibration, Workbench]:
    """The bench after each calibration: every size with the observer of the run, the full size with all of them."""
    benches = {}
    for start in range(0, len(observations), parts):
        for end in range(1, parts + 1):
            together = merged(observations[start : start + end])
            for observer in OBSERVERS if end == parts else (bench.observer,):
                calibration = _Calibration(start // parts, together.samples, observer)
                benches[calibration] = bench.calibrated(together, observer)
    return benches


def _measure(
    bench: Workbench,
    source: Source,
    held_out: Sequence[int],
    benches: Mapping[_Calibration, Workbench],
    progress: Progress,
) -> dict[Setting, OutputErrorAccumulator]:
    """The error of each calibration and scheme on the held-out samples."""
    exact = Session(bench.float_model, limits=bench.limits)
    references = References(bench.measured.model, bench.outputs, bench.limits)
    sums: dict[Setting, OutputErrorAccumulator] = {}
    first = next(iter(benches.values()))
    schemes = [
        scheme for scheme in bench.measured.schemes if scheme.is_calibrated and first.can_run(Experiment(scheme))
    ]
    for number, scheme in enumerate(schemes):
        # What one calibration did not see, as a branch that its samples did not take, is left in float by all.
        common = frozenset.intersection(*(frozenset(own.roundings(scheme)) for own in benches.values()))
        experiment = Experiment(scheme, activations=common)
        session = Session(_open(first, experiment), limits=bench.limits)
        feeds = {key: own.settings(experiment) for key, own in benches.items()}
        for done, sample in enumerate(source.pick(bench.measured.model.inputs, held_out)):
            progress("calibrating on other samples", number * len(held_out) + done, len(schemes) * len(held_out))
            expected = references.of(sample, exact.run(sample))
            for calibration, values in feeds.items():
                accumulator = sums.setdefault((calibration, scheme), OutputErrorAccumulator())
                accumulator.add(expected, session.run({**sample, **values}))
    return sums


def _open(bench: Workbench, experiment: Experiment) -> Executable:
    """The experiment as a model whose scales, zero points and biases each run may replace."""
    opened = bench.executable(experiment)
    names = bench.settings(experiment)
    # The graph without any activation to round is that of the float model, which is not to be changed.
    for tensor in opened.proto.graph.initializer if names else ():
        if tensor.name in names:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            opened.proto.graph.input.append(value)
    if names:
        # From this version on an input with an initializer is a default and not a second definition.
        opened.proto.ir_version = max(opened.proto.ir_version, 4)
    return opened


def _told(
    errors: Mapping[Setting, OutputErrorAccumulator], frame: Trials, observer: str, levels: VerdictLevels
) -> Trials:
    """The figures over the trials."""
    by_kind: dict[tuple[str, str, int], list[OutputError]] = {}
    for (calibration, scheme), accumulator in errors.items():
        kind = (scheme.name, calibration.observer, calibration.samples)
        by_kind.setdefault(kind, []).append(accumulator.result())
    decibels = {kind: [error.sqnr_db for error in found] for kind, found in by_kind.items()}
    agreements = {kind: [error.agreement for error in found] for kind, found in by_kind.items()}
    figures = [
        TrialFigure(*kind, *_mean(decibels[kind]), *_mean(agreements[kind]))
        for kind in sorted(by_kind, key=lambda kind: kind[2])
    ]
    curve = tuple(figure for figure in figures if figure.observer == observer)
    observers = tuple(figure for figure in figures if figure.samples == frame.samples)
    names = tuple(dict.fromkeys(name for name, _, _ in by_kind))
    sentences: list[str] = []
    for name in names:
        own = [figure for figure in observers if figure.scheme == name]
        halves = [decibels[kind] for kind in _last_two(by_kind, name, observer)]
        lost = hopeless(own, levels.breaks_db)
        sentences += [lost] if lost else [best_observer(own, observer), more_samples(name, halves, frame.samples)]
    told = tuple(sentence for sentence in sentences if sentence)
    return Trials(frame.count, frame.samples, frame.held_out, observers, curve, told)


def _last_two(kinds: Mapping[tuple[str, str, int], object], scheme: str, observer: str) -> list[tuple[str, str, int]]:
    return sorted((kind for kind in kinds if kind[:2] == (scheme, observer)), key=lambda kind: kind[2])[-2:]


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of what there is; one value has no deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def hopeless(figures: Sequence[TrialFigure], breaks_db: float) -> str:
    """That a scheme breaks whatever the observer, so that neither a better one nor more samples matter; else empty.

    It breaks where the output SQNR is below `breaks_db`.
    """
    known = [(figure.output_sqnr_db, figure) for figure in figures if figure.output_sqnr_db is not None]
    if not known or len(known) < len(figures):
        return ""
    best_db, best = max(known, key=lambda pair: pair[0])
    if best_db >= breaks_db:
        return ""
    return (
        f"{best.scheme}: breaks with every observer, at best {best_db:.1f} dB with {best.observer}; the ranges are not "
        "the problem."
    )


def best_observer(figures: Sequence[TrialFigure], chosen: str) -> str:
    """Which observer came out best under one scheme, and whether by more than the subsets differ; empty if unknown."""
    known = {figure.observer: figure for figure in figures if figure.output_sqnr_db is not None}
    if chosen not in known:
        return ""
    best = max(known.values(), key=lambda figure: figure.output_sqnr_db or 0.0)
    mine = known[chosen]
    gain = (best.output_sqnr_db or 0.0) - (mine.output_sqnr_db or 0.0)
    spread = max(best.deviation_db or 0.0, mine.deviation_db or 0.0, _NOTICED_DB)
    if gain <= spread:
        return f"{best.scheme}: no observer is better than {chosen} by more than the subsets differ."
    return (
        f"{best.scheme}: {best.observer} is best with {best.output_sqnr_db:.1f} dB, {gain:.1f} dB more than {chosen}; "
        f"calibrate with --observer {best.observer}."
    )


def more_samples(scheme: str, decibels: Sequence[Sequence[float | None]], samples: int) -> str:
    """Whether the last doubling of the samples changed anything, by the differences within each subset."""
    if len(decibels) < 2:
        return ""
    gains = [late - early for early, late in zip(*decibels, strict=True) if early is not None and late is not None]
    if len(gains) < 2:
        return ""
    gain, error = float(np.mean(gains)), float(np.std(gains, ddof=1) / math.sqrt(len(gains)))
    change, doubling = f"{abs(gain):.1f} dB", f"{scheme}: doubling to {samples} samples"
    if abs(gain) <= _NOTICED_DB:
        return f"{doubling} changed {change}; more samples would not help."
    if abs(gain) <= 2 * error:
        return (
            f"{doubling} {'gained' if gain > 0 else 'lost'} {change}, less than the subsets differ; more --trials "
            "would tell whether more samples help."
        )
    if gain > 0:
        return f"{doubling} gained {change}; more samples would help."
    return f"{doubling} lost {change} to outliers; more samples would not help, clipping may."
