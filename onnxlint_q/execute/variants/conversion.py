"""A model converted to another opset by the lines that a user would type, in a process of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.finding import Conversion
from onnxlint_q.rewrite.hygiene.converter import NotConvertibleError, run_converter


def lines(source: str, target: str, change: Conversion) -> str:
    """Python that writes the converted model of the file `source` to `target`; it needs `import onnx`."""
    load = f"onnx.load({source!a})"
    if not change.without_defaults:
        return f"onnx.save(onnx.version_converter.convert_version({load}, {change.opset}), {target!a})"
    return "\n".join(
        (
            f"model = {load}",
            "constants = {tensor.name for tensor in model.graph.initializer}",
            "inputs = [value for value in model.graph.input if value.name not in constants]",
            "del model.graph.input[:]",
            "model.graph.input.extend(inputs)",
            f"onnx.save(onnx.version_converter.convert_version(model, {change.opset}), {target!a})",
        )
    )


def converted(source: Path, change: Conversion, limits: Limits = DEFAULT_LIMITS) -> Executable:
    """The model of a file, converted.

    Raises:
        NotConvertibleError: the converter fails, crashes or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="onnxlint-q-") as folder:
        target = Path(folder) / "converted.onnx"
        code = f"import onnx\n{lines(str(source), str(target), change)}"
        run_converter(code, seconds=limits.seconds_per_run)
        try:
            return Executable(onnx.load(target), {}, {})
        except (OSError, DecodeError) as error:
            raise NotConvertibleError("the converter wrote a file that is no model") from error
