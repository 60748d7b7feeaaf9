"""The error at the outputs of a variant of a model, summed over samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.number_formats import OVERFLOWN_DB, decibel
from onnxlint_q.analysis.outputs.output_kind import Holds, Output, Part

Array = npt.NDArray[Any]
Kept = Mapping[int, npt.NDArray[np.bool_]]
# No decision is taken on a probability below this, so an output that never passes it has found nothing.
RESTING_FRACTION = 0.01
# Noise over signal: what overflows, and what a sample without noise counts as beside others that have some.
_OVERFLOWN, _PERFECT = float(10 ** (-OVERFLOWN_DB / 10)), 1e-14


class Comparable(StrEnum):
    """Whether an output could be compared."""

    YES = "compared"
    NO_FLOATS = "it holds no floats"
    RESHAPED = "its shape changes when the model is quantised"
    SILENT = "the float model's is zero or not finite"
    MASKED = "the mask rules out every position of the samples"
    RESTING = "the samples do not exercise it"


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """The error at one output.

    Attributes:
        name, holds: of the output.
        comparable: whether there are figures, or why not.
        sqnr_db: None where the values are identical or there are no figures.
        agreement: fraction of rows whose largest class is the float model's; None if it holds no class scores.
        rows: rows that were compared, as many as they are worth where those of one sample err together; 0 for none.
        largest: largest magnitude in the float model, for one that rests.
        parts: of an output that joins several things, each of them by itself.
        because: what in the file says what it holds, in words.
        without_db: `sqnr_db` without each of the samples in turn, infinite where nothing is lost then; empty for a
            single sample.
    """

    name: str
    holds: Holds
    comparable: Comparable
    sqnr_db: float | None = None
    agreement: float | None = None
    rows: float = 0.0
    largest: float = 0.0
    parts: tuple[OutputFigures, ...] = ()
    because: str = ""
    without_db: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputError:
    """Error at the model's outputs over some samples.

    Attributes:
        sqnr_db: `10 log10` of the inverse of the noise-to-signal power ratio, averaged over the outputs that could be
            compared; None if they are identical or there are none. `OutputErrorAccumulator` says how samples are
            averaged. An output that is not finite where the float model's is counts as -150 dB; one that ever changes
            its shape (detections, for example) is left out, and so is one that the samples do not exercise.
        worst_db: that of the worst of them, or of the worst part of one that joins several things.
        agreement: the lowest of the outputs that hold class scores; None if none does.
        has_signal: whether any output could be compared.
        samples: how many were compared.
        outputs: one by one, in the order of the model.
    """

    sqnr_db: float | None
    agreement: float | None
    has_signal: bool
    samples: int
    outputs: tuple[OutputFigures, ...] = ()

    @property
    def worst_db(self) -> float | None:
        """SQNR of the worst output or part; None where all that could be compared are identical, or none could be."""
        known = [figures.sqnr_db for figures in self._every if figures.sqnr_db is not None]
        return min(known, default=self.sqnr_db)

    @property
    def worst_without_db(self) -> tuple[float, ...]:
        """`worst_db` without each of the samples in turn, infinite where nothing is lost then."""
        known = [figures.without_db for figures in self._every if figures.without_db]
        return tuple(map(min, zip(*known, strict=True))) if known else ()

    @property
    def _every(self) -> Iterator[OutputFigures]:
        return (one for figures in self.outputs for one in (figures, *figures.parts))


class _ExactPart:
    """A part of an output of the float model: which, its sum of squares where that is finite, its extremes."""

    def __init__(self, part: Part, values: Array) -> None:
        power = _power(values)
        self.part = part
        self.power = power if math.isfinite(power) else None
        self.extremes = _extremes(values)


class Reference:
    """The float model's outputs of one sample, made ready to compare many variants with.

    Attributes:
        outputs: what they hold, by position.
        exact: the floating-point outputs in float64, by position; zero where a position does not count.
        kept: of outputs with positions that do not count, which values do; broadcasts against the output.
        power: their sums of squares; only of those that are finite.
        extremes: of each, smallest and largest value.
        parts: of each output that joins several things, these.
        classes: of outputs that hold class scores, shape `[rows, classes]` and the largest class of each row.

    Args:
        values: by position.
        outputs: what they hold, as many as there are values.
        kept: by position, which values count; all of an output that is not named.
    """

    def __init__(self, values: Sequence[Array], outputs: Sequence[Output], kept: Kept | None = None) -> None:
        self.outputs = tuple(outputs)
        self.kept = kept or {}
        # By what the file says: a comparison reads truth values and counts as floats, too.
        floating = {
            place: array
            for place, (array, output) in enumerate(zip(values, outputs, strict=True))
            if output.holds is not Holds.NO_FLOATS and np.issubdtype(array.dtype, np.floating)
        }
        self.exact = {index: self.counted(index, array) for index, array in floating.items()}
        powers = {index: _power(array) for index, array in self.exact.items()}
        self.power = {index: power for index, power in powers.items() if math.isfinite(power)}
        self.extremes = {index: _extremes(array) for index, array in self.exact.items()}
        self.parts = {
            index: [_ExactPart(part, part.within(array)) for part in outputs[index].parts_of(array.shape)]
            for index, array in self.exact.items()
        }
        self.classes: dict[int, tuple[tuple[int, ...], Array]] = {}
        for index, array in self.exact.items():
            scores = self.scores(index, array)
            if scores is not None:
                self.classes[index] = (scores.shape, scores.argmax(axis=1))

    def counted(self, index: int, values: Array) -> Array:
        """Values of an output as float64 with zero at every position that does not count."""
        values = values.astype(np.float64)
        return values if index not in self.kept else np.where(self.kept[index], values, 0.0)

    def agreeing(self, index: int, other: Array) -> int:
        """Rows in which another model's output, made ready by `counted`, has the same largest class."""
        shape, classes = self.classes[index]
        scores = self.scores(index, other)
        return 0 if scores is None or scores.shape != shape else int(np.count_nonzero(classes == scores.argmax(axis=1)))

    def scores(self, index: int, values: Array) -> Array | None:
        """An output of that position as class scores, the rows that count; None where it holds none."""
        scores = self.outputs[index].scores(values)
        if scores is None or index not in self.kept:
            return scores
        counts = self.outputs[index].scores(np.broadcast_to(self.kept[index], values.shape).astype(np.float64))
        assert counts is not None
        return scores[counts.any(axis=1)]


@dataclass
class _Sums:
    """Of one output over the samples so far."""

    # Of each sample; both zero where the signal is not finite.
    signals: list[float] = field(default_factory=list)
    noises: list[float] = field(default_factory=list)
    low: float = math.inf
    high: float = -math.inf
    reshaped: bool = False
    # Whether any value of any sample counts.
    counts: bool = False
    # A pair of agreeing rows and rows a sample.
    rows: list[tuple[int, int]] = field(default_factory=list)

    def add(self, difference: Array, power: float | None, extremes: tuple[float, float]) -> None:
        """One sample.

        Args:
            difference: of the other model from the float one.
            power: sum of squares of the float model's values; None where it is not finite.
            extremes: smallest and largest of them.
        """
        self.low, self.high = min(self.low, extremes[0]), max(self.high, extremes[1])
        self.signals.append(0.0 if power is None else power)
        self.noises.append(0.0 if power is None else _power(difference))

    @property
    def signal(self) -> float:
        """Of all samples."""
        return sum(self.signals)

    @property
    def logarithms(self) -> Array:
        """Of noise over signal, of each sample that has a signal."""
        pairs = zip(self.noises, self.signals, strict=True)
        ratios = np.asarray([noise / signal for noise, signal in pairs if signal > 0])
        logarithms: Array = np.log(np.clip(ratios, _PERFECT, _OVERFLOWN))
        return logarithms

    @property
    def agreed(self) -> tuple[int, int]:
        return sum(agreed for agreed, _ in self.rows), sum(rows for _, rows in self.rows)


@dataclass
class OutputErrorAccumulator:
    """Sums of signal and noise power, one entry an output, and one a part of an output.

    Attributes:
        alike: whether each sample counts alike, in decibels. Otherwise powers are added up, so that few samples with
            much noise decide: right for samples of a user, who will meet such ones. A sample that is made up may be
            one that the network was never trained to answer, and then no more than one of many.
    """

    alike: bool = False
    outputs: tuple[Output, ...] = ()
    sums: dict[int, _Sums] = field(default_factory=dict)
    parts: dict[tuple[int, Part], _Sums] = field(default_factory=dict)
    samples: int = 0

    def add(self, reference: Reference, other: Sequence[Array]) -> None:
        """Compare the outputs of one sample."""
        self.samples += 1
        self.outputs = reference.outputs
        for index, exact in reference.exact.items():
            sums = self.sums.setdefault(index, _Sums())
            if other[index].shape != exact.shape:
                sums.reshaped = True
                continue
            sums.counts |= index not in reference.kept or bool(reference.kept[index].any())
            counted = reference.counted(index, other[index])
            difference = counted - exact
            sums.add(difference, reference.power.get(index), reference.extremes[index])
            for known in reference.parts[index]:
                found = self.parts.setdefault((index, known.part), _Sums(counts=sums.counts))
                found.add(known.part.within(difference), known.power, known.extremes)
            if index in reference.classes:
                (rows, _), _ = reference.classes[index]
                sums.rows.append((reference.agreeing(index, counted), rows))

    def result(self) -> OutputError:
        """The error so far."""
        figures = tuple(self._figures(index, output) for index, output in enumerate(self.outputs))
        live = [index for index, found in enumerate(figures) if found.comparable is Comparable.YES]
        ratios = [self._ratio(self.sums[index]) for index in live]
        agreements = [figures[index].agreement for index in live]
        return OutputError(
            sqnr_db=decibel(1.0, float(np.mean(ratios))) if ratios else None,
            agreement=min((value for value in agreements if value is not None), default=None),
            has_signal=bool(live),
            samples=self.samples,
            outputs=figures,
        )

    def _figures(self, index: int, output: Output) -> OutputFigures:
        sums = self.sums.get(index)
        why = Comparable.NO_FLOATS if sums is None else _comparable(sums, output, self.samples)
        if sums is None or why is not Comparable.YES:
            largest = 0.0 if sums is None else _largest(sums)
            return OutputFigures(output.name, output.holds, why, largest=largest, because=output.because)
        agreed, rows = sums.agreed
        parts = ((part.held, found) for (place, part), found in self.parts.items() if place == index)
        return OutputFigures(
            output.name,
            output.holds,
            why,
            sqnr_db=decibel(1.0, self._ratio(sums)),
            agreement=agreed / rows if rows else None,
            rows=_worth(sums.rows) if rows else 0.0,
            parts=tuple(self._part(found, held) for held, found in parts),
            because=output.because,
            without_db=self._without(sums),
        )

    def _part(self, sums: _Sums, held: Output) -> OutputFigures:
        why = _comparable(sums, held, self.samples)
        if why is not Comparable.YES:
            return OutputFigures(held.name, held.holds, why, largest=_largest(sums), because=held.because)
        return OutputFigures(
            held.name,
            held.holds,
            why,
            decibel(1.0, self._ratio(sums)),
            because=held.because,
            without_db=self._without(sums),
        )

    def _ratio(self, sums: _Sums) -> float:
        """Noise over signal; that of a variant that overflows is infinitely bad as a figure, not a missing one."""
        ratio = sum(sums.noises) / sums.signal
        if not math.isfinite(ratio):
            return _OVERFLOWN
        if not self.alike or not ratio:
            return ratio
        return float(np.exp(np.mean(sums.logarithms)))

    def _without(self, sums: _Sums) -> tuple[float, ...]:
        """SQNR (dB) without each sample in turn."""
        noises, signals = np.asarray(sums.noises), np.asarray(sums.signals)
        if noises.size < 2 or not noises.any():
            return (math.inf,) * noises.size if noises.size > 1 else ()
        with np.errstate(all="ignore"):  # nothing left, or more than a double holds: see below
            if self.alike:
                logs = sums.logarithms
                ratios = np.exp((logs.sum() - logs) / (logs.size - 1))
            else:
                ratios = (noises.sum() - noises) / (signals.sum() - signals)
            known = np.nan_to_num(
                -10 * np.log10(np.maximum(ratios, 0)), nan=OVERFLOWN_DB, posinf=math.inf, neginf=OVERFLOWN_DB
            )
        return tuple(known.tolist())


def _extremes(values: Array) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (math.inf, -math.inf)


def _largest(sums: _Sums) -> float:
    largest = max(abs(sums.low), abs(sums.high))
    return largest if math.isfinite(largest) else 0.0


def _comparable(sums: _Sums, output: Output, samples: int) -> Comparable:
    if sums.reshaped:
        return Comparable.RESHAPED
    if not sums.counts:
        return Comparable.MASKED
    if not sums.signal > 0:
        return Comparable.SILENT
    if output.fraction and output.holds is Holds.VALUES and sums.high < RESTING_FRACTION:
        return Comparable.RESTING
    if samples > 1 and sums.low == sums.high:
        return Comparable.RESTING
    return Comparable.YES


def _worth(rows: Sequence[tuple[int, int]]) -> float:
    """How many independent rows as sure a share of agreement would take.

    Rows of one sample err together. The design effect (Kish, Survey Sampling, 1965, section 5.4) compares the
    variance of the ratio over samples with that of as many independent rows; where nothing varies, a sample is worth
    one row.
    """
    agreed, total = (np.asarray(column, np.float64) for column in zip(*rows, strict=True))
    count, everything = len(rows), float(total.sum())
    if everything == count:
        return everything
    share = float(agreed.sum()) / everything
    if count < 2 or share in {0.0, 1.0}:
        return float(count)
    clustered = count / (count - 1) * float(np.square(agreed - share * total).sum()) / everything**2
    independent = share * (1 - share) / everything
    return float(np.clip(everything * independent / clustered, 1.0, everything)) if clustered > 0 else float(count)


def _power(values: Array) -> float:
    """Sum of squares; infinite where it passes the largest double, NaN where a value is NaN."""
    flat = values.ravel()
    # Not the dot product of a library whose threads would wait for work on cores that others use.
    with np.errstate(over="ignore"):
        return float(np.einsum("i,i->", flat, flat))
