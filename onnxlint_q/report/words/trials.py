"""How trials read: tables of text, the same for every format made for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxlint_q.report.words.names import name
from onnxlint_q.report.words.numbers import count, number
from onnxlint_q.workflow.results import TrialFigure, Trials


@dataclass(frozen=True, slots=True)
class TrialTable:
    """A title, a header, and rows as long as it; everything is text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def trial_tables(trials: Trials) -> tuple[TrialTable, ...]:
    """Observers side by side, and the figures against the number of samples."""
    schemes = tuple(dict.fromkeys(figure.scheme for figure in trials.observers))
    header = tuple(name(scheme, 40) for scheme in schemes)
    tables = (
        TrialTable(
            f"Observers, ranges from {count(trials.samples, 'sample')} each",
            ("observer", *header),
            _rows(((figure.observer, figure) for figure in trials.observers), schemes),
        ),
        TrialTable(
            f"Number of samples, observer {name(trials.curve[0].observer, 40) if trials.curve else 'unknown'}",
            ("samples", *header),
            _rows(((str(figure.samples), figure) for figure in trials.curve), schemes),
        ),
    )
    return tuple(table for table in tables if table.rows)


def trials_heading(trials: Trials) -> str:
    """What was repeated."""
    subsets = count(trials.count, "disjoint random subset")
    return (
        f"Trials: {subsets} of {count(trials.samples, 'sample')}, each judged on the same "
        f"{count(trials.held_out, 'other')}"
    )


def _rows(figures: Iterable[tuple[str, TrialFigure]], schemes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """One row a label, one cell a scheme."""
    by_label: dict[str, dict[str, TrialFigure]] = {}
    for label, figure in figures:
        by_label.setdefault(label, {})[figure.scheme] = figure
    return tuple(
        (name(label, 40), *(_cell(by_scheme.get(scheme)) for scheme in schemes))
        for label, by_scheme in by_label.items()
    )


def _cell(figure: TrialFigure | None) -> str:
    """`10.5 ± 0.1 dB, 78.1 ± 0.0 %`."""
    if figure is None or figure.output_sqnr_db is None:
        return "-"
    text = f"{_spread(figure.output_sqnr_db, figure.deviation_db)} dB"
    if figure.agreement is not None:
        deviation = figure.agreement_deviation
        text += f", {_spread(100 * figure.agreement, None if deviation is None else 100 * deviation)} %"
    return text


def _spread(mean: float, deviation: float | None) -> str:
    return number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"
