"""Writes all that the documents have from the code: `python docs/generate.py`.

These are the pages of rules, rewrites, commands, targets, public names and scores, and the schema of the configuration.
None of them is edited by hand; a test compares the committed files with what this script makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pages.commands import commands
from pages.names import names
from pages.rewrites import rewrites
from pages.rules import rule_pages
from pages.scores import scores
from pages.targets import targets
from pages.vocabulary import vocabulary

from onnxlint_q.judge.config.schema import schema_text
from onnxlint_q.judge.registry import load_rules

HERE = Path(__file__).parent


def made() -> Mapping[str, str]:
    """Text by path from this folder."""
    return {
        **{f"rules/{name}": text for name, text in rule_pages().items()},
        "rewrites.md": rewrites(),
        "onnxlint-q.schema.json": schema_text([entry.rule for entry in load_rules()]),
        "reference/commands.md": commands(),
        "reference/python.md": names(),
        "reference/rule-scores.md": scores(),
        "reference/targets.md": targets(),
        "../onnxlint_q/cli/words/vocabulary.json": vocabulary(),
    }


def main() -> None:
    """Write all files and remove the pages of rules that are gone."""
    wanted = made()
    for stale in sorted(set((HERE / "rules").glob("*.md")) - {HERE / name for name in wanted}):
        stale.unlink()
    for name, text in wanted.items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
