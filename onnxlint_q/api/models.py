"""What a program may give as a model, as a file to read, and as shapes of its inputs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from google.protobuf.message import EncodeError

from onnxlint_q.errors import ModelError, UsageError

ModelLike: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto
"""A path, the bytes of an .onnx file, or a model in memory, which has to hold its own weights."""


@contextmanager
def model_file(model: ModelLike, called: str) -> Iterator[tuple[Path, str]]:
    """The file of a model, and what to call it where it has none of its own: it is then written for the time being."""
    if isinstance(model, str | os.PathLike):
        yield Path(model), ""
        return
    with tempfile.TemporaryDirectory(prefix="onnxlint-q-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(_bytes(model, called))
        yield path, called


def _bytes(model: bytes | onnx.ModelProto, called: str) -> bytes:
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    if not isinstance(model, onnx.ModelProto):
        raise UsageError(f"{called}: a {type(model).__name__} is no model; give a path, bytes, or an onnx.ModelProto")
    try:
        stored: bytes = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"{called}: cannot be written as one message ({error}); save it with external data, and give its path"
        ) from error
    return stored


def given_shapes(given: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Shapes by input.

    Raises:
        UsageError: a length is no whole number above zero.
    """
    shapes = {name: tuple(shape) for name, shape in (given or {}).items()}
    for name, shape in shapes.items():
        if not all(isinstance(length, (int, np.integer)) and length > 0 for length in shape):
            raise UsageError(f"input_shapes[{name!r}]: {shape} holds a length that is no whole number above zero")
    return {name: tuple(map(int, shape)) for name, shape in shapes.items()}
