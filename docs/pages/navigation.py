"""The pages of the site, in the order in which a reader wants them. Paths are from the top of the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
