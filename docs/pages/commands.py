"""The page of all commands and options, from typer's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from onnxlint_q.cli.app import COMMANDS, DEFAULT, app
from onnxlint_q.cli.words.choices import fill_in

from .markdown import cell, generated, one_line


def commands() -> str:
    """One section a command, with a row for each of its arguments and options.

    Raises:
        ValueError: a command, an argument or an option has no help.
    """
    program = typer.main.get_command(app)
    lines = [
        generated("the commands"),
        "",
        "# Commands and options",
        "",
        f"{one_line(program.help or '')} What they are for: [Using it](../usage.md).",
        "",
        *_table("option", _rows("onnxlint-q", program.params)),
    ]
    context: Any = None  # the names of the commands hang on nothing
    for name in COMMANDS:
        command = program.get_command(context, name)  # type: ignore[attr-defined]  # typer types it as any command
        fill_in(command.params)
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        words = " ".join(_argument(one) for one in arguments)
        call = f"{name} {words}".rstrip()
        lines += ["", f"## {name}", "", f"`{call}`", "", _told(name, command.help)]
        if name == DEFAULT:
            lines += ["", f"The word `{name}` can be left out."]
        lines += ["", *_table("argument", _rows(name, arguments)), "", *_table("option", _rows(name, options))]
    return "\n".join(lines) + "\n"


def _rows(command: str, parameters: list[Any]) -> Iterator[tuple[str, str]]:
    for one in parameters:
        is_option = one.param_type_name == "option"
        words = ", ".join(f"`{word}`" for word in one.opts) if is_option else f"`{_argument(one)}`"
        if is_option and one.metavar:
            words += f" `{one.metavar}`"
        yield words, _told(f"{command} {one.opts[0]}", one.help) + (" Required." if is_option and one.required else "")


def _argument(argument: Any) -> str:
    word = str(argument.metavar or argument.name.upper()) + ("…" if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _told(what: str, text: str | None) -> str:
    if not text or not text.strip():
        raise ValueError(f"{what}: no help")
    return one_line(text)


def _table(head: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield from (f"| {head} | meaning |", "|---|---|")
    for words, meaning in rows:
        yield f"| {cell(words)} | {cell(meaning)} |"
