"""The command `rule`: arguments and wiring; no logic."""

from __future__ import annotations

from typing import Annotated

import typer

from onnxlint_q.cli.terminal.streams import errors_as_one_line, say
from onnxlint_q.cli.words import completion
from onnxlint_q.errors import UsageError


def rule(
    code: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.explained,
            help="Code or name of a rule, the first letters of codes, or a word such as SQNR. Upper and lower case are "
            "the same.",
        ),
    ] = None,
    all_rules: Annotated[bool, typer.Option("--all", help="List all rules and words. So does no code at all.")] = False,
) -> None:
    """Explain a rule or a word, or list a family of rules, or all."""
    with errors_as_one_line():
        from onnxlint_q.judge.explain import everything, explain
        from onnxlint_q.judge.registry import load_rules

        rules = load_rules()
        if all_rules and code is not None:
            raise UsageError("name one rule, or pass --all")
        say((everything(rules) if code is None else explain(rules, code)) + "\n")
