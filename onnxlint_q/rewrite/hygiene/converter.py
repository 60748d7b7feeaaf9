"""onnx's version converter in a process of its own."""

from __future__ import annotations

from onnxlint_q.script import ScriptError, run_lines


class NotConvertibleError(Exception):
    """The converter fails; the text says why, in one line."""


def run_converter(code: str, given: bytes = b"", seconds: float = 60.0) -> bytes:
    """What Python code that calls the converter writes to its standard output.

    Args:
        code: run with no access to modules in the working directory.
        given: its standard input.
        seconds: how long it may take.

    Raises:
        NotConvertibleError: it fails, crashes or takes too long.
    """
    try:
        return run_lines(code, "the converter", seconds, given)
    except ScriptError as error:
        raise NotConvertibleError(str(error)) from error
