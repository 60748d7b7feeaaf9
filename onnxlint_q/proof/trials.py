"""How much the choice of samples, their number, and the observer change the quantised model.

The data is cut into disjoint random subsets, as the trials of Yun & Wong (arXiv 2104.11849, section 3), and every
calibration is judged on the same further samples. Each subset is observed in groups of 1, 1, 2, 4, ... samples, in one
pass for all: statistics add up, so every size of every subset comes from that pass. One session a scheme serves all
calibrations, because they differ in scales and zero points alone, and those are handed to each run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.observed.observations import Observations, merged
from onnxlint_q.analysis.observed.observers import OBSERVERS
from onnxlint_q.analysis.schemes import Number, Scheme
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.executable import Executable, folded
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream.observe import observe_groups
from onnxlint_q.execute.variants.output_error import OutputErrorAccumulator, Reference
from onnxlint_q.execute.variants.quantized import (
    ActivationScale,
    activation_scales,
    can_simulate,
    scale_inputs,
    with_activations,
    with_weight,
)
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.proof.trial_figures import TrialFigure, Trials

_SEED = 0
# A change that nobody would notice, whatever its sign.
_NOTICED_DB = 0.5


@dataclass(frozen=True, slots=True)
class _Setting:
    """One calibration: which subset, how many of its samples, which scheme and observer."""

    trial: int
    samples: int
    scheme: str
    observer: str


def run_trials(
    facts: Facts, source: Source, samples: int, count: int, observer: str, progress: Progress = silent
) -> Trials:
    """Calibrate on `count` disjoint subsets of `samples` samples each, and compare.

    Where the data is too little for that, subsets and held-out samples become smaller alike.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: there are fewer samples than subsets and one more, or one cannot be read.
    """
    available = source.available(facts.model.inputs)
    size = samples if available is None else min(samples, available // (count + 1))
    if size < 1:
        raise DataError(
            f"{source.name}: holds {available} samples, {count} trials need at least {count + 1}; lower --trials"
        )
    parts = _part_sizes(size)
    order = np.random.default_rng(_SEED).permutation((count + 1) * size if available is None else available)
    held_out = sorted(int(number) for number in order[:size])
    groups = _groups(order[size : (count + 1) * size], count, parts)
    seen = observe_groups(facts, source, groups, progress)
    schemes = [scheme for scheme in facts.schemes if can_simulate(facts.model.opset, scheme)]
    settings = list(_settings(schemes, count, list(accumulate(parts)), observer))
    scales = _all_scales(facts, settings, seen, len(parts))
    errors = _measure(facts, source, held_out, schemes, scales, progress)
    return _told(settings, errors, Trials(count, size, size, (), ()), observer)


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


def _settings(schemes: Sequence[Scheme], count: int, sizes: Sequence[int], observer: str) -> Iterator[_Setting]:
    for trial in range(count):
        for scheme in schemes:
            for size in sizes[:-1]:
                yield _Setting(trial, size, scheme.name, observer)
            for name in OBSERVERS:
                yield _Setting(trial, sizes[-1], scheme.name, name)


def _all_scales(
    facts: Facts, settings: Sequence[_Setting], seen: Sequence[Observations], parts: int
) -> dict[_Setting, tuple[ActivationScale, ...]]:
    """Scales of the activations for each calibration."""
    schemes = {scheme.name: scheme for scheme in facts.schemes}
    sums: dict[tuple[int, int], Observations] = {}
    for start in range(0, len(seen), parts):
        for end in range(1, parts + 1):
            together = merged(seen[start : start + end])
            sums[start // parts, together.samples] = together
    # Schemes with activations of one format have the same scales.
    made: dict[tuple[int, int, Number, str], tuple[ActivationScale, ...]] = {}
    found = {}
    for setting in settings:
        scheme = schemes[setting.scheme]
        key = setting.trial, setting.samples, scheme.activations, setting.observer
        if key not in made:
            made[key] = activation_scales(facts, scheme, sums[setting.trial, setting.samples], setting.observer)
        found[setting] = made[key]
    return found


def _measure(
    facts: Facts,
    source: Source,
    held_out: Sequence[int],
    schemes: Sequence[Scheme],
    scales: Mapping[_Setting, tuple[ActivationScale, ...]],
    progress: Progress,
) -> dict[_Setting, OutputErrorAccumulator]:
    """The error of each calibration on the held-out samples."""
    base = folded(facts)
    exact = Session(base)
    sums = {setting: OutputErrorAccumulator() for setting in scales}
    for number, scheme in enumerate(schemes):
        mine = {setting: entries for setting, entries in scales.items() if setting.scheme == scheme.name}
        # What one calibration did not see, as a branch that its samples did not take, is left in float by all.
        common = set.intersection(*({entry.tensor for entry in entries} for entries in mine.values()))
        shared = {s: tuple(entry for entry in entries if entry.tensor in common) for s, entries in mine.items()}
        session = Session(_open(with_weight(base, facts, facts.layers, scheme), next(iter(shared.values()))))
        feeds = {setting: scale_inputs(entries) for setting, entries in shared.items()}
        for done, sample in enumerate(source.pick(facts.model.inputs, held_out)):
            progress("trials", number * len(held_out) + done, len(schemes) * len(held_out))
            expected = Reference(exact.run(sample))
            for setting, values in feeds.items():
                sums[setting].add(expected, session.run({**sample, **values}))
    return sums


def _open(executable: Executable, scales: Sequence[ActivationScale]) -> Executable:
    """The variant with these activations quantised, whose scales and zero points each run may replace."""
    opened = with_activations(executable, scales)
    names = scale_inputs(scales)
    for tensor in opened.proto.graph.initializer:
        if tensor.name in names:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            opened.proto.graph.input.append(value)
    # From this version on an input with an initializer is a default and not a second definition.
    opened.proto.ir_version = max(opened.proto.ir_version, 4)
    return opened


def _told(
    settings: Sequence[_Setting], errors: Mapping[_Setting, OutputErrorAccumulator], frame: Trials, observer: str
) -> Trials:
    """The figures over the trials."""
    by_kind: dict[tuple[str, str, int], list[_Setting]] = {}
    for setting in settings:
        by_kind.setdefault((setting.scheme, setting.observer, setting.samples), []).append(setting)
    decibels = {kind: [errors[s].result().sqnr_db for s in found] for kind, found in by_kind.items()}
    agreements = {kind: [errors[s].result().agreement for s in found] for kind, found in by_kind.items()}
    figures = [
        TrialFigure(*kind, *_mean(decibels[kind]), *_mean(agreements[kind]))
        for kind in sorted(by_kind, key=lambda kind: kind[2])
    ]
    curve = tuple(figure for figure in figures if figure.observer == observer)
    observers = tuple(figure for figure in figures if figure.samples == frame.samples)
    schemes = tuple(dict.fromkeys(setting.scheme for setting in settings))
    sentences: list[str] = []
    for scheme in schemes:
        own = [figure for figure in observers if figure.scheme == scheme]
        halves = [decibels[kind] for kind in _last_two(by_kind, scheme, observer)]
        lost = hopeless(own)
        sentences += [lost] if lost else [best_observer(own, observer), more_samples(scheme, halves, frame.samples)]
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


def hopeless(figures: Sequence[TrialFigure]) -> str:
    """That a scheme breaks whatever the observer, so that neither a better one nor more samples matter; else empty."""
    known = [(figure.output_sqnr_db, figure) for figure in figures if figure.output_sqnr_db is not None]
    if not known or len(known) < len(figures):
        return ""
    best_db, best = max(known, key=lambda pair: pair[0])
    if best_db >= VerdictLevels().breaks_db:
        return ""
    return (
        f"{best.scheme}: breaks with every observer, {best_db:.1f} dB with {best.observer} at best; the ranges are not "
        "what is wrong."
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
    change = f"{abs(gain):.1f} dB from half as many to {samples} samples"
    if abs(gain) <= _NOTICED_DB:
        return f"{scheme}: {change} is no change that counts; more samples would not help."
    if abs(gain) <= 2 * error:
        return (
            f"{scheme}: {'up' if gain > 0 else 'down'} {change}, which is less than the subsets differ; more --trials "
            "would tell whether more samples help."
        )
    if gain > 0:
        return f"{scheme}: it still gained {change}; more samples would help."
    return f"{scheme}: it lost {change}: ranges widen with every outlier; more samples would not help, clipping may."
