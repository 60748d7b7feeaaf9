"""Which other files a model refers to, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message

# A protobuf message cannot be larger.
_MAX_BYTES = 2**31 - 1


def external_files(path: Path) -> frozenset[Path]:
    """The files that tensors of the model at `path` keep their values in; none for a file that is not a model."""
    proto = onnx.ModelProto()
    try:
        if path.stat().st_size > _MAX_BYTES:
            return frozenset()
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError):
        return frozenset()
    locations = {entry.value for tensor in _tensors(proto) for entry in tensor.external_data if entry.key == "location"}
    return frozenset(path.parent / location for location in locations if "\0" not in location)


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor in a message, at whatever depth: initializers, attributes, subgraphs, functions."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from _tensors(inner)
