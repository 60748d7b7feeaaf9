"""The command `config`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.terminal.streams import errors_as_one_line, say


def config(
    model: Annotated[Path, typer.Argument(help="Show the configuration for this path.")] = Path(),
    show: Annotated[  # printing is all that the command does
        bool, typer.Option("--show", help="Print the settings and where they come from. This is the default.")
    ] = True,
    config: Annotated[Path | None, typer.Option(help="Use this configuration file.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of the configuration, with the installed rules.")
    ] = False,
) -> None:
    """Show the configuration that applies to a model."""
    with errors_as_one_line():
        from onnxlint_q.judge.config import find_config, for_model, read_config
        from onnxlint_q.judge.config.schema import schema_text
        from onnxlint_q.judge.explain import settings
        from onnxlint_q.judge.registry import load_rules

        rules = [entry.rule for entry in load_rules()]
        if schema:
            say(schema_text(rules))
            return
        chosen = read_config(config, rules) if config else find_config(model, rules)
        say(settings(for_model(chosen, model), rules) + "\n")
