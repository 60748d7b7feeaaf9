"""`html`: what was quantised as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases as fixing
from onnxlint_q.report.fix.html import data_of, without_folders
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.front import MADE_UP, Call, decide
from onnxlint_q.report.html import page
from onnxlint_q.report.html.decision import Card, card
from onnxlint_q.report.html.provenance import made, of_data, of_file
from onnxlint_q.report.quantize import phrases
from onnxlint_q.report.quantize.json import render_compact
from onnxlint_q.workflow.mending.quantized import Quantized
from onnxlint_q.workflow.results import Verdict

MISSED = "It does not reach what was asked for."


def render(found: Quantized, look: Look = PLAIN) -> str:
    """The page; of every path it tells the last part only, unless it is to tell them."""
    found = found if look.paths else _published(found)
    cards = tuple(_cards(found))
    return page(
        "quantize.html",
        look,
        render_compact(found),
        title=words.name(words.file_name(found.out), 60),
        found=found,
        phrases=phrases,
        fixing=fixing,
        cards=cards,
        beside=phrases.beside(found),
        origin=(
            *of_file("Float model", found.path, found.sha256, found.before.bytes),
            *of_data(replace(data_of(found.verification), observer=found.observer or "each run")),
            *made(look.origin()),
        ),
        call=cards[0].decision.call,
        attempts=phrases.attempts(found),
    )


def _cards(found: Quantized) -> Iterator[Card]:
    """The file that was written, then what ONNX Runtime makes by default."""
    seen = data_of(found.verification)
    doubt = MADE_UP if found.verification.synthetic else ""
    decision = decide(found.result, seen, doubt)
    if not found.reached and decision.call is Call.SHIP:
        decision = replace(decision, call=Call.HOLD, held=Verdict.DEGRADES, but=MISSED)
    yield card(decision, found.result).titled(phrases.recipe(found))
    for result in found.plain:
        yield card(decide(result, seen, doubt), result).titled(f"plain {words.name(result.scheme, 60)}")


def _published(found: Quantized) -> Quantized:
    return replace(
        found,
        path=words.file_name(found.path),
        out=words.file_name(found.out),
        recipe_file=words.file_name(found.recipe_file),
        verification=replace(found.verification, source=words.file_name(found.verification.source)),
        fixed=without_folders(found.fixed) if found.fixed is not None else None,
    )
