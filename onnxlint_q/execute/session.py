"""ONNX Runtime sessions, with their failures told in one sentence."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.workers import SECONDS_TO_STOP

Array = npt.NDArray[Any]
# An untrusted graph may loop for ever; a single sample that takes longer than this is stopped.
SECONDS_PER_RUN = 120.0
_TENSOR = (np.ndarray, np.generic)


class NotRunnableError(Exception):
    """ONNX Runtime cannot load or run the model; the text says why, in one line."""


class Session:
    """A loaded model."""

    def __init__(self, executable: Executable, threads: int = 0) -> None:
        """Load `executable` on the CPU, with quantise-dequantise pairs computed as they stand.

        Args:
            executable: the model.
            threads: how many a run may use, 0 for as many as there are cores.

        Raises:
            NotRunnableError: ONNX Runtime refuses the model.
        """
        self._threads = threads
        try:
            names = list(executable.weights)
            # The session refers to these values, so they have to live as long as it does.
            self._values = [ort.OrtValue.ortvalue_from_numpy(executable.weights[name]) for name in names]
            self._session = self._load(executable.proto.SerializeToString(), names)
        except Exception as error:  # pybind raises a dozen unrelated types
            raise NotRunnableError(_one_line(error)) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _load(self, proto: bytes, names: list[str]) -> ort.InferenceSession:
        """With integer kernels whose sums cannot saturate, or as it comes where there are none for the model."""
        try:
            return ort.InferenceSession(proto, self._options(names, precise=True), providers=["CPUExecutionProvider"])
        except Exception:  # pybind again; what is wrong with the model itself is said by the second try
            options = self._options(names, precise=False)
            return ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])

    def _options(self, names: list[str], *, precise: bool) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        # Integer kernels would round differently from the operators' definition; pairs are to be what they say.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # Without VNNI a sum of two uint8 x int8 products saturates at 16 bits, which is the machine's, not the model's.
        options.add_session_config_entry("session.x64quantprecision", "1" if precise else "0")
        # Many sessions take turns on the same cores; threads that spin after a run take them from the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if names:
            options.add_external_initializers(names, self._values)
        return options

    def run(self, sample: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Values of `outputs`, at least one (all of the model's by default), for one sample.

        A sequence, an optional or a map is not a tensor and comes as an empty array of objects.

        Raises:
            NotRunnableError: the run fails or takes longer than SECONDS_PER_RUN.
        """
        options = run_options()
        finished: list[list[Array] | Exception] = []

        def work() -> None:
            try:
                finished.append(self.compute(sample, options, outputs))
            except NotRunnableError as error:  # handed to the thread that waits, which raises it
                finished.append(error)
            done.set()

        # Only a thread that waits can be interrupted from the keyboard or lose its patience. It waits for an event:
        # a join that was interrupted takes the thread for ended.
        done = threading.Event()
        threading.Thread(target=work, daemon=True).start()
        try:
            in_time = done.wait(SECONDS_PER_RUN)
        finally:
            options.terminate = True
            done.wait(SECONDS_TO_STOP)
        if not in_time:
            raise too_long()
        (values,) = finished
        if isinstance(values, Exception):
            raise values
        return values

    def compute(
        self, sample: Mapping[str, Array], options: ort.RunOptions, outputs: Sequence[str] | None = None
    ) -> list[Array]:
        """`run` on this thread, for as long as it takes or until somebody sets `options.terminate`.

        Raises:
            NotRunnableError: the run fails.
        """
        try:
            values = self._session.run(list(self._outputs if outputs is None else outputs), dict(sample), options)
        except Exception as error:  # pybind raises a dozen unrelated types
            raise NotRunnableError(_one_line(error)) from error
        return [np.asarray(value) if isinstance(value, _TENSOR) else np.empty(0, object) for value in values]


class Runs:
    """Runs on several threads, which can all be stopped."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._running: dict[int, ort.RunOptions] = {}
        self._stopped = False

    @contextmanager
    def options(self, number: int) -> Iterator[ort.RunOptions]:
        """Options for `Session.compute` while a piece of work lasts; `number` tells several apart."""
        options = self._running[number] = run_options()
        # Looked at after the options can be found, so that a stop that comes now is not missed.
        options.terminate = self._stopped
        try:
            yield options
        finally:
            del self._running[number]

    def stop(self) -> None:
        """Let runs that are on their way end at the next operator."""
        self._stopped = True
        for options in list(self._running.values()):
            options.terminate = True


def time_limit() -> float:
    """Seconds that one sample may take."""
    return SECONDS_PER_RUN


def too_long() -> NotRunnableError:
    """What is raised for one that takes longer."""
    return NotRunnableError(f"one sample took longer than {SECONDS_PER_RUN:g} seconds and was stopped")


def run_options() -> ort.RunOptions:
    """Options of one run that says nothing and can be stopped."""
    options = ort.RunOptions()
    options.log_severity_level = 4
    return options


def _one_line(error: Exception) -> str:
    """ONNX Runtime's message without its status code and without the C++ function that raised it; never empty."""
    text = re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ?", "", " ".join(str(error).split()))
    place = re.search(r"\S+\.(?:cc|cpp|h|hpp):\d+ [^(]*", text)
    if place is not None:
        text = text[: place.start()] + _after_parentheses(text[place.end() :])
    text = text.strip() or f"it gives no reason ({type(error).__name__})"
    return text if len(text) <= 300 else f"{text[:297]}..."


def _after_parentheses(signature: str) -> str:
    """What follows the argument list that `signature` starts with."""
    depth = 0
    for position, character in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return signature[position + 1 :].removeprefix(" const").strip() or signature
    return signature
