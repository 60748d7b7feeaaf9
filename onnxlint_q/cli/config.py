"""The command `config`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.streams import errors_as_one_line, say


def config(
    model: Annotated[Path, typer.Argument(help="Show the configuration for this path.")] = Path(),
    show: Annotated[  # printing is all that the command does
        bool, typer.Option("--show", help="Print the settings and where they come from. This is the default.")
    ] = True,
    config: Annotated[Path | None, typer.Option(help="Use this configuration file.")] = None,
) -> None:
    """Show the configuration that applies to a model."""
    with errors_as_one_line():
        from onnxlint_q.judge.config import find_config, read_config
        from onnxlint_q.judge.explain import settings
        from onnxlint_q.judge.registry import load_rules

        chosen = read_config(config) if config else find_config(model)
        say(settings(chosen, [entry.rule for entry in load_rules()]) + "\n")
