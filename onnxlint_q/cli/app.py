"""Which command a word means, and the exit code of the process whatever happens.

Exit codes: 0 nothing that fails a build; 1 a finding, a verdict or a run that did not happen does; 2 no trustworthy
answer; 130 and 143 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from onnxlint_q import __version__
from onnxlint_q.cli.terminal.streams import (
    NO_ANSWER,
    complain,
    drop_output,
    errors_as_one_line,
    say,
)
from onnxlint_q.cli.words.choices import Command
from onnxlint_q.errors import UsageError, as_one_line, did_you_mean

# Each is the function of its name in the module of its name, imported when it is asked for; `Command` in that module
# reads its arguments, where they are more than options and names.
COMMANDS = ("check", "inspect", "compare", "diff", "fix", "quantize", "rule", "config")
DEFAULT = "check"


class _Commands(typer.core.TyperGroup):
    """`onnxlint-q model.onnx` is `onnxlint-q check model.onnx`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(add_completion=False)
        with errors_as_one_line():
            module = import_module(f"onnxlint_q.cli.{cmd_name}")
            alone.command(cmd_name, cls=getattr(module, "Command", Command))(getattr(module, cmd_name))
        return typer.main.get_command(alone)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.rich_markup_mode = "rich"
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Options of the default command, too: its name can be left out."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            return found
        of_default = self.get_command(ctx, DEFAULT).shell_complete(ctx, incomplete)
        return list({item.value: item for item in (*of_default, *found)}.values())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version", "--install-completion", "--show-completion", *COMMANDS}
        if args and args[0] not in own:
            if not ctx.resilient_parsing:  # to complete a word, which may be wrong
                with errors_as_one_line():
                    _check_is_no_command(args[0])
            args = [DEFAULT, *args]
        if args and args[0] in COMMANDS:
            # None of its own is given, and typer would load pydantic to check what each is by default.
            self.params, self.add_help_option = [], False
        return super().parse_args(ctx, args)


def _check_is_no_command(word: str) -> None:
    """Raise UsageError for a word that looks like a mistyped command rather than like a model."""
    meant = did_you_mean(word, COMMANDS)
    if meant and not word.startswith("-") and not word.lower().endswith(".onnx") and not Path(word).exists():
        raise UsageError(f"{word!r}: no such command, and no such file{meant}")


app = typer.Typer(
    cls=_Commands,
    name="onnxlint-q",
    help="Tells whether an ONNX model survives INT8, where it breaks, why, and what to do. With data it measures "
    "what it says. `onnxlint-q model.onnx` is short for `onnxlint-q check model.onnx`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors are lines: to load what draws frames takes longer than all else; help has them
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        with errors_as_one_line():
            say(f"onnxlint-q {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """The program, exit code included; signals are the door's."""
    # A stream that was closed before we came would be None here, and its descriptor would go to the next open file.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        app(prog_name="onnxlint-q")
    except OSError as error:  # typer writes the help itself
        drop_output()
        complain(as_one_line(error))
        sys.exit(NO_ANSWER)
