"""`html`: what was quantised as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

from dataclasses import replace

from onnxlint_q import __version__
from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases as fixing
from onnxlint_q.report.html import embed, environment
from onnxlint_q.report.quantize import phrases
from onnxlint_q.report.quantize.json import render_compact
from onnxlint_q.workflow.mending.fixed import Verification
from onnxlint_q.workflow.mending.quantized import Quantized


def render(found: Quantized) -> str:
    """The page; of every path it tells the last part only."""
    found = _published(found)
    text: str = (
        environment()
        .get_template("quantize.html")
        .render(
            found=found,
            phrases=phrases,
            fixing=fixing,
            words=words,
            title=words.name(found.path, 60),
            version=__version__,
            attempts=phrases.attempts(found),
            data=embed(render_compact(found)),
        )
    )
    return text + "\n"


def _published(found: Quantized) -> Quantized:
    fixed = found.fixed
    if fixed is not None:
        held = _without_folder(fixed.verification)
        fixed = replace(fixed, path=words.file_name(fixed.path), out="", verification=held)
    return replace(
        found,
        path=words.file_name(found.path),
        out=words.file_name(found.out),
        recipe_file=words.file_name(found.recipe_file),
        verification=_without_folder(found.verification),
        fixed=fixed,
    )


def _without_folder(held: Verification) -> Verification:
    return replace(held, source=words.file_name(held.source))
