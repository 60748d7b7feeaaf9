"""From a path to a parsed, trusted ModelProto, and from there to a Model.

A file is trusted when it parses, holds a graph whose every tensor is defined once and without a cycle, and
keeps its external data inside its own folder. Weights stay where they are until somebody asks for one.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.loading.build import build_model
from onnxlint_q.graph.loading.external import check_external_data, check_self_contained
from onnxlint_q.graph.loading.functions import inline_functions
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.names import ROOT, bodies, walk_graphs
from onnxlint_q.graph.tensors import TensorStore

_LFS_MAGIC = b"version https://git-lfs.github.com/spec/"
# A protobuf message cannot be larger; bigger models keep their weights in external data.
_MAX_BYTES = 2**31 - 1


def read_model(path: Path, called: str = "") -> Model:
    """Read `path` without executing anything.

    Args:
        path: the file.
        called: what messages call a model that its owner never had as a file, so that weights in others cannot be
            found; empty for a file of the user's.

    Raises:
        ModelError: the file is missing, empty, an LFS pointer, not ONNX, truncated, cyclic, refers to a tensor
            that nothing defines, or its external data is missing, too short or outside the model's folder.
    """
    name = called or str(path)
    proto, digest = _parsed_file(path, name)
    store = TensorStore(path.parent, name)
    if called:
        check_self_contained(proto, name)
    check_external_data(proto, store)
    inlined = len(proto.functions)
    proto = inline_functions(proto, name)
    return replace(build_model(proto, store, path=path, sha256=digest), inlined=inlined)


def _parsed_file(path: Path, name: str) -> tuple[onnx.ModelProto, str]:
    """The message and the SHA-256 of its bytes, which are let go: the message holds a copy."""
    data = _file_bytes(path, name)
    return parse_model(data, name), hashlib.sha256(data).hexdigest()


def parse_model(data: bytes, name: str) -> onnx.ModelProto:
    """Parse the bytes of an .onnx file; `name` is what messages call it.

    Raises:
        ModelError: the bytes are not an ONNX model.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        if _looks_like_text(data):
            raise ModelError(f"{name}: this is a text file, not an ONNX model; pass the exported .onnx file") from error
        raise ModelError(
            f"{name}: the protobuf is corrupt or truncated ({len(data)} bytes); download or export the file again"
        ) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{name}: parsed, but it holds no graph, so it is not an ONNX model; export it again")
    if not all(isinstance(text, str) for text in _names(proto)):
        raise ModelError(f"{name}: it holds names that are not valid UTF-8; the file is damaged, export it again")
    return proto


def _names(proto: onnx.ModelProto) -> Iterator[object]:
    """Every name in the model; protobuf gives text that is not UTF-8 as bytes."""
    yield from (entry.domain for entry in proto.opset_import)
    for function in proto.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
    graphs = [graph for _, graph in walk_graphs(proto.graph)]
    for function in proto.functions:
        held = (body for number, node in enumerate(function.node) for _, _, body in bodies(node, number, ROOT))
        graphs += [graph for body in held for _, graph in walk_graphs(body)]
    for graph in graphs:
        yield from (value.name for group in (graph.input, graph.output, graph.initializer) for value in group)
        yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in itertools.chain(*(graph.node for graph in graphs), *(function.node for function in proto.functions)):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _file_bytes(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise ModelError(f"{name}: no such file; check the path")
        if not path.is_file():
            raise ModelError(f"{name}: not a regular file; pass an .onnx file or a folder of them")
        size = path.stat().st_size
        if size == 0:
            raise ModelError(f"{name}: the file is empty (0 bytes); download or export it again")
        if size > _MAX_BYTES:
            raise ModelError(
                f"{name}: {size} bytes is more than a protobuf can hold (2 GiB); save the weights as external data"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if data.startswith(_LFS_MAGIC):
        raise ModelError(f"{name}: this is a Git LFS pointer, not the model; run `git lfs pull`")
    return data


def _looks_like_text(data: bytes) -> bool:
    try:
        head = codecs.getincrementaldecoder("utf-8")().decode(data[:512])
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t" for character in head)
