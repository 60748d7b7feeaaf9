"""Every tensor of a file that keeps its values in another file is found, wherever the message holds it.

Only initializers and the `value` of Constant nodes may: they are read by `TensorStore`, inside the model's folder. ONNX
Runtime and onnx would read any other one themselves, relative to the working directory, so it is refused before
anything native sees the model.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import onnx
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.node import STANDARD_DOMAINS
from onnxlint_q.graph.tensors import TensorStore, is_external

# A protobuf message cannot be larger.
_MAX_BYTES = 2**31 - 1
_MOST_SEARCHED = 1 << 28
# How a message is reached: each field on the way with the message that holds it, outermost first.
Way = tuple[tuple[str, Message], ...]


def check_external_data(proto: onnx.ModelProto, store: TensorStore) -> None:
    """Check every tensor of `proto` whose values lie in another file.

    Raises:
        ModelError: one is neither an initializer nor the value of a Constant, or its file breaks a rule of the store.
    """
    for tensor, way in _tensors(proto, ()):
        if not is_external(tensor):
            continue
        if not _may_be_external(way):
            raise ModelError(
                f"{store.model_name}: {_place(tensor, way)} has its values in another file, which only initializers "
                "and Constant nodes may; export the model again with this tensor inside"
            )
        store.check(tensor)


def check_self_contained(proto: onnx.ModelProto, name: str) -> None:
    """Check that a model that is no file holds all of its weights.

    Raises:
        ModelError: a tensor has its values in another file, and nothing says where that is.
    """
    for tensor, way in _tensors(proto, ()):
        if is_external(tensor):
            raise ModelError(
                f"{name}: {_place(tensor, way)} has its values in another file, and a model in memory does not say in "
                "which folder; give the path of the model, or load the weights into it with onnx.load or "
                "onnx.load_external_data_for_model"
            )


def _tensors(message: Message, way: Way) -> Iterator[tuple[onnx.TensorProto, Way]]:
    """Every tensor in `message`, at any depth, and the way to it."""
    for name in _leading_to_tensors()[message.DESCRIPTOR.full_name]:
        held = getattr(message, name)
        if isinstance(held, Message):
            held = [held] if message.HasField(name) else []
        here = (*way, (name, message))
        for member in held:
            if isinstance(member, onnx.TensorProto):
                yield member, here
            else:
                yield from _tensors(member, here)


@cache
def _leading_to_tensors() -> Mapping[str, tuple[str, ...]]:
    """The fields of each kind of message that hold a tensor, at any depth.

    Taken from the descriptors, so that none is forgotten that a later version of the format adds.
    """
    kinds: dict[str, Descriptor] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        if kind.full_name not in kinds:
            kinds[kind.full_name] = kind
            waiting.extend(field.message_type for field in kind.fields if field.message_type)
    leading = {onnx.TensorProto.DESCRIPTOR.full_name}

    def fields(kind: Descriptor) -> tuple[str, ...]:
        return tuple(f.name for f in kind.fields if f.message_type and f.message_type.full_name in leading)

    while more := {name for name, kind in kinds.items() if fields(kind)} - leading:
        leading |= more
    return {name: fields(kind) for name, kind in kinds.items()}


def _may_be_external(way: Way) -> bool:
    field, holder = way[-1]
    hidden = any(name == "g" and message.type != onnx.AttributeProto.GRAPH for name, message in way)
    if hidden or way[0][0] == "training_info":
        return False
    if isinstance(holder, onnx.GraphProto):
        return field == "initializer"
    node = way[-2][1]
    return (
        isinstance(holder, onnx.AttributeProto)
        and isinstance(node, onnx.NodeProto)
        and (node.op_type, holder.name, field) == ("Constant", "value", "t")
        and holder.type == onnx.AttributeProto.TENSOR
        and node.domain in STANDARD_DOMAINS
    )


def _place(tensor: onnx.TensorProto, way: Way) -> str:
    """Where the tensor is, for a message."""
    attribute = ""
    for field, holder in reversed(way):
        if isinstance(holder, onnx.AttributeProto):
            attribute = holder.name
        elif isinstance(holder, onnx.NodeProto):
            return f"attribute {attribute!r} of the {holder.op_type} node {holder.name or ''.join(holder.output[:1])!r}"
        elif isinstance(holder, onnx.FunctionProto):
            return f"attribute {attribute!r} of function {holder.name!r}"
        elif isinstance(holder, onnx.GraphProto):
            training = "training " if way[0][0] == "training_info" else ""
            return f"{training}{field.replace('_', ' ')} {tensor.name!r}"
    return f"tensor {tensor.name!r}"


def external_files(path: Path) -> frozenset[Path]:
    """The files that tensors of the model at `path` keep their values in; none for a file that is not a model."""
    proto = onnx.ModelProto()
    try:
        # A pipe or a device has no size, and no end either.
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return frozenset()
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError):
        return frozenset()
    entries = (entry for tensor, _ in _tensors(proto, ()) for entry in tensor.external_data)
    locations = {entry.value for entry in entries if entry.key == "location"}
    return frozenset(path.parent / name for name in locations if isinstance(name, str) and "\0" not in name)


def stored_bytes(path: Path) -> int:
    """Size of a model's file and of those that its weights lie in; 0 where there is none.

    A file too large to be anything but weights itself is not searched for others.
    """
    size = _size(path)
    others = external_files(path) if size <= _MOST_SEARCHED else frozenset[Path]()
    return size + sum(map(_size, others))


def _size(path: Path) -> int:
    """Of a file; 0 for what is none, or has a name that no file can have."""
    try:
        status = path.stat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def lost(source: Path, target: str) -> str:
    """What a file at `target` would destroy of a file or folder that is read, in words; empty for nothing.

    A folder stands for the files in it, a model also for the files that hold its weights; links are followed.
    """
    if _is_same(source, target):
        return str(source)
    if not Path(target).exists():
        return ""
    if source.is_dir():
        return f"data in {source}" if any(_is_same(entry, target) for entry in source.iterdir()) else ""
    if source.is_file() and any(_is_same(other, target) for other in external_files(source)):
        return f"weights of {source}"
    return ""


def _is_same(path: Path, target: str) -> bool:
    try:
        return path.samefile(target)
    except OSError:  # nothing is there, or nobody may look
        return os.path.realpath(path) == target
