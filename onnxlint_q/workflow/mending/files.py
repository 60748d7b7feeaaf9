"""Files that a command writes: whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxlint_q.errors import ModelError, OnnxlintError


@contextmanager
def written_whole(out: Path | None) -> Iterator[Path | None]:
    """A file of the same name in a folder beside; what lies there takes its place when all went well.

    Errors that come from inside name the file without that folder.

    Raises:
        ModelError: it cannot be written.
    """
    if out is None:
        yield None
        return
    target = out.resolve()
    beside = target.parent / f".onnxlint-q-{secrets.token_hex(8)}"
    try:
        beside.mkdir()
        model = beside / target.name
        yield model
        for file in sorted(beside.iterdir(), key=lambda file: file == model):  # the model last: it names all
            place = target.parent / file.name
            # Who may read a model may read its weights, which onnx writes for the owner alone.
            shutil.copymode(place if place.exists() else model, file)
            file.replace(place)
    except OnnxlintError as error:
        raise type(error)(str(error).replace(f"{beside}{os.sep}", "")) from error
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error.strerror or error}; name another file with -o") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
