"""The verdict on each output: what a run left of it, or what one is expected to leave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxlint_q.analysis.intervals import samples_to_decide, wilson
from onnxlint_q.analysis.number_formats import OVERFLOWN_DB
from onnxlint_q.forecast.expected.level import Level, Traits, level
from onnxlint_q.forecast.expected.level_table import PROBE
from onnxlint_q.forecast.expected.traits import TOGETHER, Place
from onnxlint_q.judge.verdict import Chances, Verdict, VerdictLevels, worst, worst_chances
from onnxlint_q.workflow.results import Basis, OutputResult, SchemeResult

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.output_error import OutputError, OutputFigures


def result_of_run(
    scheme: str, error: OutputError, basis: Basis, levels: VerdictLevels, *, by_class: bool
) -> SchemeResult:
    """The verdict on what a run left at the outputs; none, with the reason, where that is no figure.

    Args:
        scheme: what was run.
        error: against the float model.
        basis: what was run on.
        levels: where the verdict changes.
        by_class: whether it counts which class is the largest; on made-up inputs that is chance.
    """
    from onnxlint_q.proof.prove import NO_SIGNAL

    outputs = tuple(judge_output(figures, levels, by_class=by_class) for figures in error.outputs)
    if not error.has_signal:
        note = "; ".join(dict.fromkeys(output.note for output in outputs if output.note)) or NO_SIGNAL
        return SchemeResult(scheme, None, None, basis, note=note, ran=True, outputs=outputs)
    if error.sqnr_db is not None and not is_figure(error.sqnr_db):
        return SchemeResult(scheme, None, None, basis, note="the run gave no finite figure", ran=True, outputs=outputs)
    identical = ["the outputs are identical"] if error.sqnr_db is None else []
    held = worst(output.verdict for output in outputs if output.verdict is not None)
    ends = [end for output in outputs for end in (output.parts or (output,))]
    notes = [end.note if len(ends) == 1 else f"{end.name!r}: {end.note}" for end in ends if end.note]
    return SchemeResult(
        scheme,
        held,
        error.sqnr_db,
        basis,
        least_agreement(outputs),
        "; ".join([*identical, *notes]),
        ran=True,
        outputs=outputs,
        chances=of_worst(outputs),
    )


def result_of_probe(
    scheme: str, error: OutputError, levels: VerdictLevels, traits: Mapping[Place, Traits]
) -> SchemeResult:
    """The verdict on what a run on made-up inputs left at the outputs: what a run on data is expected to measure.

    Which class is the largest on made-up inputs is chance, and so is whether it stays the largest; the agreement is
    the one that goes with the SQNR.

    Args:
        scheme: what was run.
        error: against the float model.
        levels: where the verdict changes.
        traits: of the forecast for this scheme.
    """
    ran = result_of_run(scheme, error, Basis.PROBE, levels, by_class=False)
    if ran.verdict is None or error.sqnr_db is None:
        return ran

    def expected(output: OutputResult, place: Place) -> OutputResult:
        if output.verdict is None or output.sqnr_db is None:
            return output
        return expected_output(output, level(output.sqnr_db, traits.get(place, Traits()), PROBE), levels)

    outputs = tuple(
        with_parts(
            expected(output, (output.name, "")),
            tuple(expected(part, (output.name, part.name)) for part in output.parts),
        )
        for output in ran.outputs
    )
    pooled, chances = level(error.sqnr_db, traits.get(TOGETHER, Traits()), PROBE), of_worst(outputs)
    return replace(
        ran,
        verdict=None if chances is None else chances.verdict,
        output_sqnr_db=pooled.sqnr_db,
        agreement=least_agreement(outputs),
        uncertainty_db=pooled.uncertainty_db,
        outputs=outputs,
        chances=chances,
        interval_db=pooled.interval_db,
    )


def expected_output(output: OutputResult, expected: Level | None, levels: VerdictLevels) -> OutputResult:
    """An output, or a part of one, with what a run on data is expected to measure; None if it loses nothing."""
    if expected is None:
        return replace(output, verdict=Verdict.SURVIVES, chances=Chances.certain(Verdict.SURVIVES))
    chances = levels.chances(expected)
    return replace(
        output,
        sqnr_db=expected.sqnr_db,
        agreement=expected.agreement,
        verdict=chances.verdict,
        chances=chances,
        interval_db=expected.interval_db,
    )


def judge_output(figures: OutputFigures, levels: VerdictLevels, *, by_class: bool) -> OutputResult:
    """The verdict on one output."""
    parts = tuple(_judged(part, levels, by_class=False) for part in figures.parts)
    return with_parts(_judged(figures, levels, by_class=by_class), parts)


def with_parts(output: OutputResult, parts: tuple[OutputResult, ...]) -> OutputResult:
    """An output with the verdict of its worst part; as it is where it is one thing or no part is judged."""
    chances = of_worst(parts)
    if chances is None:
        return output
    parts = tuple(replace(part, of=output.name) for part in parts)
    return replace(output, verdict=chances.verdict, chances=chances, parts=parts)


def of_worst(outputs: Iterable[OutputResult]) -> Chances | None:
    """The chances of the worst output that is judged; None where none is."""
    return worst_chances(output.chances for output in outputs if output.chances is not None)


def least_agreement(outputs: Iterable[OutputResult]) -> float | None:
    """The least of those that are counted by class; None where none is."""
    return min((output.agreement for output in outputs if output.agreement is not None), default=None)


def _judged(figures: OutputFigures, levels: VerdictLevels, *, by_class: bool) -> OutputResult:
    """The verdict on an output as a whole, or on a part."""
    from onnxlint_q.execute.variants.output_error import Comparable

    holds = figures.holds.value
    if figures.comparable is not Comparable.YES:
        return OutputResult(figures.name, holds, note=_not_judged(figures), assumed=figures.because)
    agreement = figures.agreement if by_class else None
    held = levels.verdict(figures.sqnr_db, agreement)
    told = OutputResult(
        figures.name, holds, figures.sqnr_db, verdict=held, chances=Chances.certain(held), assumed=figures.because
    )
    if agreement is None:
        return told
    told = replace(told, agreement=agreement, interval=wilson(agreement * figures.rows, figures.rows))
    # What is identical is so on every sample.
    if figures.sqnr_db is None or told.interval is None:
        return told
    return replace(
        told,
        chances=levels.measured_chances(agreement, figures.rows),
        note=_undecided(agreement, figures.rows, levels.crossed(*told.interval)),
    )


def _undecided(agreement: float, rows: float, levels: Sequence[float]) -> str:
    """That an interval holds a level, and how many samples would tell."""
    if not levels:
        return ""
    crossed = " and ".join(f"{100 * level:g} %" for level in levels)
    needed = [samples_to_decide(agreement * rows, rows, level) for level in levels]
    known = [number for number in needed if number is not None]
    more = f"; about {_in_two_digits(max(known))} samples would" if known and len(known) == len(needed) else ""
    return f"too few samples to tell it from {crossed}{more}"


def _in_two_digits(number: int) -> int:
    """The next number above, or itself, that has two digits but for zeros."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return math.ceil(number / step) * step


def _not_judged(figures: OutputFigures) -> str:
    from onnxlint_q.execute.variants.output_error import Comparable

    if figures.comparable is not Comparable.RESTING:
        return f"not judged: {figures.comparable}"
    passed = f" (float values stay under {figures.largest:.1g})" if figures.largest < 1 else ""
    return f"not judged: {figures.comparable}{passed}; give samples that hold what the model looks for"


def is_figure(sqnr_db: float) -> bool:
    """Whether an SQNR can be one: finite, and not below that of an output that overflows."""
    return math.isfinite(sqnr_db) and sqnr_db >= OVERFLOWN_DB
