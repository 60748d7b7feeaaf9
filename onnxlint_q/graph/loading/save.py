"""A model written to a folder: one file, or weights beside it where a protobuf would become too large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx.external_data_helper import load_external_data_for_tensor

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.names import walk_graphs
from onnxlint_q.graph.node import STANDARD_DOMAINS
from onnxlint_q.graph.tensors import is_external

DATA_ENDING = ".data"
"""What is added to the name of the model for the file with its weights."""
# A protobuf ends at 2 GiB; some readers hold it twice.
_MOST_INSIDE = 1 << 30
# Shapes and axes stay inside, where every reader looks for them.
_LEAST_OUTSIDE = 1024


def model_files(path: Path) -> tuple[Path, Path]:
    """The files that `save_model` may write for a model of this name: itself and its weights."""
    return path, path.with_name(f"{path.name}{DATA_ENDING}")


def save_model(model: Model, folder: Path, name: str) -> tuple[str, ...]:
    """Write a model into a folder; the names of the files that were made, the model first.

    Weights lie in a second file if some do in the model's own, or if there are too many for one.

    Raises:
        ModelError: weights in other files cannot be read any more, or the folder cannot be written.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    tensors = list(_tensors(proto))
    # A message past 2 GiB has no size that could be asked for: its tensors are counted first.
    stored = (len(tensor.raw_data) for tensor in tensors)
    outside = any(map(is_external, tensors)) or sum(stored) > _MOST_INSIDE or proto.ByteSize() > _MOST_INSIDE
    try:
        with ExitStack() as stack:
            data = stack.enter_context((folder / f"{name}{DATA_ENDING}").open("wb")) if outside else None
            for tensor in tensors:
                if is_external(tensor):
                    load_external_data_for_tensor(tensor, str(model.path.parent))
                    tensor.data_location = onnx.TensorProto.DEFAULT
                    del tensor.external_data[:]
                if data is not None and len(values := tensor.raw_data) >= _LEAST_OUTSIDE:
                    _move(tensor, values, data, f"{name}{DATA_ENDING}")
        (folder / name).write_bytes(proto.SerializeToString())
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{model.name}: the changed model cannot be written: {error}") from error
    return (name, f"{name}{DATA_ENDING}") if outside else (name,)


def _move(tensor: onnx.TensorProto, values: bytes, data: BinaryIO, location: str) -> None:
    offset = data.tell()
    data.write(values)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", len(values))):
        tensor.external_data.add(key=key, value=str(value))
    tensor.ClearField("raw_data")


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor whose values may lie in another file: initializers, and values of Constant nodes."""
    for _, graph in walk_graphs(proto.graph):
        yield from graph.initializer
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
                yield from (attribute.t for attribute in node.attribute if attribute.name == "value")
