"""Values of TensorProtos, inline or external, as numpy arrays that are views wherever possible.

External data is memory-mapped on demand. Containment: the file must lie inside the model's own folder, by its path
and where symlinks lead; the one exception is the Hugging Face cache, where `snapshots/<revision>/…` holds symlinks into
the `blobs` folder of the same repository. A hard link is a file like any other: package stores make them for honest
files, and who can make one in the model's folder can put the bytes there as well.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxlint_q.errors import ModelError

Array = np.ndarray[Any, np.dtype[Any]]
# numpy has no arrays of more axes; the format sets no limit.
MOST_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32

_SUB_BYTE = frozenset(
    code
    for code in (
        onnx.TensorProto.UINT4,
        onnx.TensorProto.INT4,
        getattr(onnx.TensorProto, "FLOAT4E2M1", None),
        getattr(onnx.TensorProto, "UINT2", None),
        getattr(onnx.TensorProto, "INT2", None),
    )
    if code is not None
)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the values lie in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def is_real(values: Array) -> bool:
    """Whether they are numbers with an order, of whatever type: neither texts nor complex."""
    return values.dtype.kind not in "OUSc"


@dataclass(frozen=True, slots=True)
class TensorStore:
    """Reads tensors of one model.

    Attributes:
        folder: the folder of the .onnx file as it was named, not resolved: external locations are relative to it.
        model_name: what messages call the model.
    """

    folder: Path
    model_name: str

    def array(self, tensor: onnx.TensorProto) -> Array:
        """The values of `tensor`, read-only or a copy; exotic types come as ml_dtypes arrays.

        Raises:
            ModelError: the stored bytes do not fit the declared shape, or external data breaks a rule above.
        """
        self._check_shape(tensor)
        try:
            if is_external(tensor):
                return self._external(tensor)
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise self._error(
                tensor,
                f"does not hold the values its shape {list(tensor.dims)} declares ({error}); export the model again",
            ) from error

    def check(self, tensor: onnx.TensorProto) -> None:
        """Check that the values are where they should be and fill the shape, without decoding them.

        Raises:
            ModelError: as `array` does; inline values in typed fields are only looked at by `array`.
        """
        self._check_shape(tensor)
        if is_external(tensor):
            if len(tensor.dims) > MOST_AXES:
                raise self._error(tensor, f"has its values in another file and {len(tensor.dims)} axes; reshape it")
            self._locate(tensor)
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != self._declared_bytes(tensor):
            raise self._error(
                tensor,
                f"holds {len(tensor.raw_data)} bytes, its shape {list(tensor.dims)} needs "
                f"{self._declared_bytes(tensor)}; export the model again",
            )

    def _check_shape(self, tensor: onnx.TensorProto) -> None:
        if any(dim < 0 for dim in tensor.dims):
            raise self._error(
                tensor, f"has a negative dimension in its shape {list(tensor.dims)}; export the model again"
            )

    def _external(self, tensor: onnx.TensorProto) -> Array:
        path, offset, length = self._locate(tensor)
        raw: Array = np.empty(0, np.uint8)
        if length:  # of no type of its own, which would tell Python of each part and each result
            raw = np.asarray(np.memmap(path, np.uint8, "r", offset=offset, shape=(length,)))
        if tensor.data_type in _SUB_BYTE:
            inline = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes())
            return numpy_helper.to_array(inline)
        return raw.view(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tuple(tensor.dims))

    def _locate(self, tensor: onnx.TensorProto) -> tuple[Path, int, int]:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not all(isinstance(text, str) for text in (*entries, *entries.values())):  # protobuf gives it as bytes
            raise self._error(tensor, "names an external data file in text that is not UTF-8; export the model again")
        location = entries.get("location", "")
        path = self._contained(tensor, location)
        if not _is_file(path):
            raise self._error(
                tensor,
                f"needs the external data file {location!r}, which is not there; put it beside the model",
            )
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", "-1"))
        except ValueError as error:
            raise self._error(
                tensor, "has an external offset or length that is not a number; export the model again"
            ) from error
        expected = self._declared_bytes(tensor)
        if length < 0:
            length = expected
        if offset < 0 or length != expected:
            raise self._error(
                tensor,
                f"stores {length} bytes at offset {offset} of {location!r}, its shape needs {expected}; "
                "export the model again",
            )
        if offset + length > path.stat().st_size:
            raise self._error(
                tensor, f"reaches past the end of {location!r}; that data file is truncated, fetch it again"
            )
        return path, offset, length

    def _contained(self, tensor: onnx.TensorProto, location: str) -> Path:
        relative = Path(location)
        if not location or "\0" in location:
            raise self._error(tensor, "names no external data file; export the model again")
        path = self.folder / relative
        real = Path(os.path.realpath(path))  # that of pathlib raises for links in a circle
        home = self.folder.resolve()
        inside = real.is_relative_to(home) or real.is_relative_to(_hub_blobs(home) or home)
        if relative.is_absolute() or ".." in relative.parts or not inside:
            raise self._error(
                tensor,
                f"points outside the model's folder ({location!r}); keep external data beside the model",
            )
        return path

    def _declared_bytes(self, tensor: onnx.TensorProto) -> int:
        count = int(math.prod(tensor.dims))
        if tensor.data_type in _SUB_BYTE:
            name = onnx.TensorProto.DataType.Name(tensor.data_type)
            return int(-(-count * (2 if name.endswith("INT2") else 4) // 8))
        try:
            itemsize = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except KeyError as error:
            raise self._error(tensor, f"has the unknown element type {tensor.data_type}; upgrade onnx") from error
        return count * itemsize

    def _error(self, tensor: onnx.TensorProto, what: str) -> ModelError:
        # Initializers have names; of Constant nodes the node has.
        subject = f"initializer {tensor.name!r}" if tensor.name else "the value of a Constant node"
        return ModelError(f"{self.model_name}: {subject} {what}")


def _is_file(path: Path) -> bool:
    """Whether it is one; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _hub_blobs(home: Path) -> Path | None:
    """The `blobs` folder of a Hugging Face cache entry that `home` is a snapshot of."""
    for parent in (home, *home.parents):
        if parent.parent.name == "snapshots":
            return parent.parent.parent / "blobs"
    return None
