"""Reports of the other commands in a narrow terminal: lines fit, and no word is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import test_compare_reports
import test_diff_reports
import test_inspect_reports
import test_mending_reports

from onnxlint_q.report import ReportFormat, compare, diff, fix, inspect, quantize
from onnxlint_q.report.formats import Look

REPORTS: dict[str, Callable[[Look], str]] = {
    "fix": lambda look: fix.render(test_mending_reports.fixed(), ReportFormat.FULL, look),
    "quantize": lambda look: quantize.render(test_mending_reports.quantized(), ReportFormat.FULL, look),
    "inspect": lambda look: inspect.render(test_inspect_reports.inspection(), ReportFormat.FULL, look),
    "compare": lambda look: compare.render(
        test_compare_reports.comparison(test_compare_reports.INPUT, test_compare_reports.LAYER),
        ReportFormat.FULL,
        look,
    ),
    "diff": lambda look: diff.render(test_diff_reports.changes(), ReportFormat.FULL, look),
}


def words_of(text: str) -> set[str]:
    """But hashes, which are longer than a line."""
    return {word.strip(",;.") for word in text.split() if len(word) < 58 and set(word) != {"a", "b"}}


@pytest.mark.parametrize("width", [60, 70, 80, 90])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("name", REPORTS)
def test_lines_fit_and_no_word_is_cut(name: str, verbose: bool, width: int) -> None:
    whole = words_of(REPORTS[name](Look(1000, verbose=verbose)))
    told = REPORTS[name](Look(width, verbose=verbose))
    assert max(map(len, told.splitlines())) <= width
    assert words_of(told) <= whole
