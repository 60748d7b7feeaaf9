"""The command `config`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.streams import errors_as_one_line, say


def config(
    model: Annotated[Path, typer.Argument(help="The configuration that applies to this path.")] = Path(),
    show: Annotated[  # printing is all that the command does
        bool, typer.Option("--show", help="Print the settings with what they come from; it does so in any case.")
    ] = True,
    config: Annotated[Path | None, typer.Option(help="This file instead.")] = None,
) -> None:
    """Show the configuration that applies to a model."""
    with errors_as_one_line():
        from onnxlint_q.judge.config import find_config, read_config
        from onnxlint_q.judge.explain import settings
        from onnxlint_q.judge.registry import load_rules

        chosen = read_config(config) if config else find_config(model)
        say(settings(chosen, [entry.rule for entry in load_rules()]) + "\n")
