"""The site, made by Sphinx from the Markdown of the repository as it stands: `sphinx-build -W -c docs/site . .site`.

Pages stay readable where code is hosted: what only the site has is added when a page is read, the tree of pages to the
home page and the whole docstrings to the table of public names. A page that is missing, a link or an anchor that leads
nowhere, a public name without docstring and a command without help are errors.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from pages.commands import commands  # noqa: E402
from pages.names import groups, names  # noqa: E402
from pages.navigation import BENEATH, HOME, SECTIONS, check, listed  # noqa: E402

import onnxlint_q  # noqa: E402

project = "onnxlint-q"
release = onnxlint_q.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = HOME.removesuffix(".md")
source_suffix = {".md": "markdown"}
include_patterns = [HOME, *listed()]
exclude_patterns = [".*", "**/.*"]

myst_heading_anchors = 4
myst_linkify_fuzzy_links = False
default_role = "literal"
smartquotes = False  # `--probe` has two dashes
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Unions are told by their names; the parameters say what they take.
autodoc_type_aliases = {name: name for name in ("DataLike", "LabelsLike", "ModelLike", "Words")}
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "home.html"}  # leads to the README
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["site.css"]


def setup(app: Any) -> None:
    """Sphinx calls this."""
    # They raise where something is not listed or not documented.
    check(HERE.parents[1])
    commands()
    names()
    app.connect("source-read", _complete)
    app.connect("autodoc-process-signature", _name_aliases)
    app.connect("doctree-resolved", _set_dashes)


def _complete(_app: Any, page: str, source: list[str]) -> None:
    """Add to a page what only the site has."""
    if page == root_doc:
        source[0] += "".join(_tree(title, pages) for title, pages in SECTIONS.items())
    source[0] += _tree("", BENEATH.get(f"{page}.md", ()))
    if page == "docs/reference/python":
        source[0] += "\n".join(_docstrings())


def _name_aliases(*event: Any) -> tuple[str | None, str | None]:
    """A union with None shows how Sphinx holds a type alias; its name is enough."""
    arguments, result = event[-2:]
    return arguments and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", arguments), result


def _set_dashes(_app: Any, tree: nodes.document, _page: str) -> None:
    """Sphinx writes two hyphens between a parameter and its meaning, for typography that is off here."""
    for text in [text for text in tree.findall(nodes.Text) if text == " -- "]:
        text.parent.replace(text, nodes.Text(" – "))


def _tree(title: str, pages: Sequence[str]) -> str:
    head = ":hidden:\n:glob:\n" + (f":caption: {title}\n" if title else "")
    return f"\n```{{toctree}}\n{head}\n" + "".join(f"/{page}\n" for page in pages) + "```\n" if pages else ""


def _docstrings() -> Iterator[str]:
    """The public names again, whole, in the order of the table."""
    for title, members in groups().items():
        yield f"\n## In full: {title[:1].lower()}{title[1:]}\n"
        yield "````{eval-rst}"
        yield ".. currentmodule:: onnxlint_q\n"
        for name in members:
            value = getattr(onnxlint_q, name)
            kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else ""
            if kind:
                yield f".. auto{kind}:: {name}\n" + ("   :members:\n" if kind == "class" else "")
        yield "````"
