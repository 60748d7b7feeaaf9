"""onnx's version converter in a process of its own."""

from __future__ import annotations

from onnxlint_q.scripts import ScriptError, run_lines


class NotConvertibleError(Exception):
    """The converter fails; the text says why, in one line."""


def run_converter(code: str, given: bytes = b"", seconds: float = 60.0) -> bytes:
    """What Python code that calls the converter writes to its standard output; arguments as of `run_lines`.

    Raises:
        NotConvertibleError: it fails, crashes or takes too long.
    """
    try:
        return run_lines(code, "the converter", given, seconds)
    except ScriptError as error:
        raise NotConvertibleError(str(error)) from error
