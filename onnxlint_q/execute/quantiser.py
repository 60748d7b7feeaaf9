"""ONNX Runtime's own static quantiser, run on samples of ours."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from onnxlint_q.execute import runtime
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.session import NotRunnableError

Sample = Mapping[str, npt.NDArray[Any]]
# The quantiser holds the model several times, and a protobuf ends at 2 GB.
_MOST_BYTES = 1 << 30


def quantised(
    executable: Executable, samples: Iterator[Sample], *, per_channel: bool, ranges: Path | None = None
) -> Executable:
    """What `quantize_static` makes of a float model, with ranges by min-max: U8 activations, S8 weights, QDQ.

    Args:
        executable: the model.
        samples: what it calibrates on.
        per_channel: one scale a channel.
        ranges: a file that keeps the ranges for the next call; where it is there already, they are taken from it.

    Raises:
        NotRunnableError: it fails, with its reason.
        DataError: a sample cannot be read.
    """
    if executable.weight_bytes > _MOST_BYTES:
        raise NotRunnableError(f"its weights have {executable.weight_bytes >> 20} MB; the quantiser is not tried on it")
    tool = runtime.quantization()
    reader = _Reader(samples)
    with tempfile.TemporaryDirectory() as folder, _silent():
        given, made = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        onnx.save(_whole(executable), given)
        try:
            tool.quantize_static(
                given,
                made,
                reader,
                per_channel=per_channel,
                activation_type=tool.QuantType.QUInt8,
                weight_type=tool.QuantType.QInt8,
                calibration_cache_path=ranges,
            )
            proto = onnx.load(made)
        except Exception as error:  # of any type: what it meets in a graph is not foreseen
            if reader.failure is not None:
                raise reader.failure from error
            raise NotRunnableError(f"quantize_static fails: {type(error).__name__}: {error}") from error
    return Executable(proto, {}, {})


class _Reader:
    """The samples, as the calibration asks for them; what goes wrong with them is kept apart from its own failures."""

    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples
        self.failure: Exception | None = None

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        try:
            sample = next(self._samples, None)
        except Exception as error:  # whatever it is, it is raised again
            self.failure = error
            raise
        return None if sample is None else dict(sample)


def _whole(executable: Executable) -> onnx.ModelProto:
    """The model with its weights inside."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in executable.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(executable.weights[tensor.name], tensor.name))
    return proto


@contextmanager
def _silent() -> Iterator[None]:
    """Without what the quantiser logs, and with the root logger left as it was.

    onnx names files of weights by the address of the network card, which it opens a socket for; here by chance.
    """
    root, level, named = logging.getLogger(), logging.root.manager.disable, uuid.uuid1
    handlers = list(root.handlers)
    logging.disable(logging.CRITICAL)
    uuid.uuid1 = lambda *_: uuid.uuid4()
    try:
        yield
    finally:
        uuid.uuid1 = named
        logging.disable(level)
        root.handlers[:] = handlers
