"""Where on the page of a comparison a finding, its row in the table and its mark in the chart are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from onnxlint_q.finding import Finding
from onnxlint_q.report.html.blocks import Place, RuleBlock
from onnxlint_q.report.html.page import Page
from onnxlint_q.workflow.results import ComparedRow


def linked(page: Page, rows: Sequence[ComparedRow], *, charted: Iterable[int]) -> Page:
    """The page with findings that know the number of their row, from 1; `charted` are rows with a mark in the chart."""
    numbers = _numbers(rows)
    return replace(
        page,
        chart=None,
        table="tensor",
        point=f"{page.anchor}-p-",
        pointed=frozenset(charted),
        blocks=_with_rows(page.blocks, numbers),
        refuted=_with_rows(page.refuted, numbers),
        suppressed=_with_rows(page.suppressed, numbers),
    )


def _numbers(rows: Sequence[ComparedRow]) -> Mapping[str, int]:
    """Number of the row by every name that a finding may have for it; what is first in data order keeps a name."""
    found: dict[str, int] = {}
    for names in (lambda row: (row.quantized,), lambda row: (row.node, row.location.node, row.location.output)):
        for number, row in enumerate(rows, start=1):
            for name in filter(None, names(row)):
                found.setdefault(name, number)
    return found


def _with_rows(blocks: Sequence[RuleBlock], numbers: Mapping[str, int]) -> tuple[RuleBlock, ...]:
    return tuple(
        replace(block, first=_places(block.first, numbers), rest=_places(block.rest, numbers)) for block in blocks
    )


def _places(places: Sequence[Place], numbers: Mapping[str, int]) -> tuple[Place, ...]:
    return tuple(replace(place, columns={}, layer=_row(place.finding, numbers)) for place in places)


def _row(finding: Finding, numbers: Mapping[str, int]) -> int | None:
    """The row where the error that it explains begins, else that of what it is about."""
    where, claim = finding.location, finding.claim
    names = (finding.metrics.get("jump_at"), claim.tensor if claim is not None else "", where.output, where.node)
    return next((numbers[name] for name in names if isinstance(name, str) and name in numbers), None)
