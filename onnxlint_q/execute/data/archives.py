"""Arrays from .npz and .npy files, which may come from anybody: no pickles, and no more memory than the file earns."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.errors import DataError
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits

Array = npt.NDArray[Any]
# What numpy writes. Of the other ways to pack, zipfile unpacks a block as a whole, and a kilobyte may hold gigabytes.
_PACKED = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


def read_arrays(path: Path, limits: Limits = DEFAULT_LIMITS) -> Mapping[str, Array]:
    """The arrays of an .npz or .npy file, by name; an .npy has one, called `data`, and is read where it is used.

    Pickled objects are refused, and so are an archive with anything but arrays, before any of it is unpacked, and an
    array that is larger than its file says it can be.

    Raises:
        DataError: the file is neither, or holds too much.
    """
    try:
        if not zipfile.is_zipfile(path):
            _check_magic(path)
            # A map of the file: whatever shape its header claims, nothing is read yet, and the file must be as long.
            return {"data": np.load(path, allow_pickle=False, mmap_mode="r")}
        _check_archive(path, limits.archive_bytes)
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise a dozen unrelated types on a damaged file
        raise DataError(f"{path}: cannot be read as .npz or .npy ({error}); write it with numpy.savez") from error
    return arrays


def _check_magic(path: Path) -> None:
    """Refuse what is no .npy; numpy would take it for pickled objects and say how to load those."""
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path}: is no .npz and no .npy file; write it with numpy.savez")


def _check_archive(path: Path, most_bytes: int) -> None:
    """Refuse an .npz whose arrays are objects, do not fit into their members, or unpack to more than `most_bytes`."""
    total = 0
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if not members or not all(m.filename.endswith(".npy") and m.compress_type in _PACKED for m in members):
            raise DataError(f"{path}: is an archive without arrays, or with other files; write it with numpy.savez")
        for info in members:
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            if dtype.hasobject or math.prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError(f"{info.filename} claims {dtype} values of shape {list(shape)}")
            total += info.file_size
    if total > most_bytes:
        raise DataError(
            f"{path}: unpacks to {total / 2**30:.1f} GB, which would all be in memory; write an .npy or several .npz"
        )
