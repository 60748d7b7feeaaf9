"""`html`: one file that reads without a network, without JavaScript, on paper, and in the dark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from onnxlint_q import __version__
from onnxlint_q.report import digest, tensors, words
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.html import charts
from onnxlint_q.report.html.page import pages
from onnxlint_q.report.html.published import published
from onnxlint_q.report.html.table import ESTIMATE
from onnxlint_q.report.json import render_compact
from onnxlint_q.workflow.results import Run

_CODE = Markup("<code>{}</code>")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")


def render(run: Run, look: Look = PLAIN) -> str:
    """The page; the json report is inside it as `<script type="application/json" id="data">`.

    A page is made to be attached to a release: of every path it tells the last part only, unless it is to tell them.
    """
    run = run if look.paths else published(run)
    return page(
        "report.html",
        look,
        render_compact(run),
        title=", ".join(words.name(words.file_name(model.path), 60) for model in run.models[:3]) or "no model",
        pages=pages(run, look.origin()),
        failures=run.failures,
        summary=digest.summary(run),
    )


def page(template: str, look: Look, data: str, *, title: str, **told: object) -> str:
    """A page of the family.

    Args:
        template: its file.
        look: what it tells of its making.
        data: the json report.
        title: of the window.
        told: what else the template lays out.
    """
    made = environment().get_template(template)
    text: str = made.render(title=title, version=__version__, data=embed(data), **told)
    return text + "\n"


def embed(json_text: str) -> Markup:
    """JSON as the content of a script element: the same values, nothing that HTML could take for a tag."""
    for char in "<>&":
        json_text = json_text.replace(char, f"\\u{ord(char):04x}")
    return Markup(json_text)


@cache
def environment() -> Environment:
    """Autoescape is on whatever a file is called; `finalize` makes invisible characters visible.

    One for all pages of a process: it keeps what it has compiled of its templates, which takes as long as many pages.
    """
    made = Environment(
        loader=PackageLoader("onnxlint_q.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        name=words.name,
        breakable=_breakable,
        shown=words.shown,
        lines=_lines,
        prose=_prose,
        decibel=words.decibel,
        significant=words.significant,
        count=words.count,
        n=charts.coordinate,
    )
    made.tests.update(costly=tensors.explains)
    made.globals.update(words=words, severity_mark=words.SEVERITY_MARK, verdict_mark=words.VERDICT_MARK)
    made.globals.update(tensors=tensors, estimate=ESTIMATE)
    return made


def _finalize(value: object) -> object:
    return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(text: str, limit: int = 160) -> Markup:
    """A name made safe to show that a narrow column may break behind its separators, and copies as it is."""
    parts = re.split(r"(?<=[/._:;-])(?=[^/._:;-])", words.name(text, limit))
    return Markup("<wbr>").join(parts)


def _prose(text: str) -> Markup:
    """Sentences in which what stands between backticks is code, and no line ends within the name of an option."""
    parts = (_CODE.format(words.visible(part)) if n % 2 else _options_whole(part) for n, part in _between(text))
    return Markup("").join(parts)


def _options_whole(text: str) -> Markup:
    return Markup(_OPTION.sub(r'<span class="option">\g<0></span>', str(escape(words.visible(text)))))


def _between(text: str) -> Iterable[tuple[int, str]]:
    """The parts between backticks, numbered; those with an odd number are code."""
    parts = text.split("`")
    return enumerate(parts if len(parts) % 2 else [text])


def _lines(text: str, limit: int = 4000) -> Markup:
    """Several lines for `<pre>`, each made safe on its own."""
    return Markup("\n").join(words.visible(line) for line in words.shorten(text, limit).splitlines())
