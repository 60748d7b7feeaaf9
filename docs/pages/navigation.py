"""The pages of the site, in the order in which a reader wants them. Paths are from the top of the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

HOME = "README.md"
RULES = "docs/rules/README.md"
"""The index, under which all pages of rules hang."""
STUDY = "bench/study/README.md"
BENEATH: Mapping[str, Sequence[str]] = {
    RULES: ("docs/rules/Q*",),
    STUDY: (
        "bench/study/results/accuracy.md",
        "bench/study/results/accuracy-seed-100.md",
        "bench/study/results/ranges.md",
        "bench/study/results/verdicts.md",
        "bench/study/corpus/README.md",
    ),
}
"""Pages that hang under another one; `Q*` stands for all of these letters."""
SECTIONS: Mapping[str, Sequence[str]] = {
    "Start": ("docs/learn/tutorial.md", "docs/usage.md", "docs/ci.md", "docs/api.md"),
    "Commands": ("docs/measure.md", "docs/inspect.md", "docs/compare.md", "docs/rewrites.md"),
    "Reference": (
        RULES,
        "docs/reference/commands.md",
        "docs/reference/python.md",
        "docs/reference/targets.md",
        "docs/rules/glossary.md",
    ),
    "How right it is": (
        "docs/learn/forecast.md",
        "docs/scorecard.md",
        "docs/reference/rule-scores.md",
        "docs/field.md",
        "docs/speed.md",
        STUDY,
        "docs/learn/other-tools.md",
    ),
    "The project": (
        "docs/plugin/README.md",
        "CONTRIBUTING.md",
        "fixtures/README.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ),
}


def listed() -> list[str]:
    """All pages and patterns of pages but the home page."""
    return [page for pages in [*SECTIONS.values(), *BENEATH.values()] for page in pages]


def check(root: Path) -> None:
    """Hold the list against the pages that there are.

    Raises:
        ValueError: a page is not listed, is listed twice, or is not there.
    """
    found = [path.relative_to(root).as_posix() for path in [*root.glob("*.md"), *root.glob("docs/**/*.md")]]
    wanted = [HOME, *listed()]
    for page in found:
        if sum(fnmatch(page, pattern) for pattern in wanted) != 1:
            raise ValueError(f"{page}: has to be listed once in docs/pages/navigation.py")
    for page in wanted:
        if "*" not in page and not (root / page).is_file():
            raise ValueError(f"{page}: listed in docs/pages/navigation.py, and not there")
