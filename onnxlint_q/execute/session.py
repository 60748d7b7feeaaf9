"""ONNX Runtime sessions, with their failures told in one sentence.

`_Native` is the one way into ONNX Runtime to run a model: bytes, names, numbers and arrays go in, arrays come out.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.execute import runtime as ort
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.workers import SECONDS_TO_STOP

Array = npt.NDArray[Any]
Loaded = TypeVar("Loaded")
_TENSOR = (np.ndarray, np.generic)
_NO_MEMORY = re.compile(
    r"Failed to allocate memory for requested buffer|bad[ _]alloc(ation)?\b|MemoryError|Cannot allocate memory"
)
# Bytes of a constant that is made at load, beside those that the model stores.
_LEAST_FOLDED = 64 << 20
# Bytes of weights that a session may hold a second time, in the order that its kernels like.
_MOST_PACKED = 512 << 20


class NotRunnableError(Exception):
    """ONNX Runtime cannot load or run the model; the text says why, in one line."""


class TooLongError(NotRunnableError):
    """It takes longer than it may."""


class Session:
    """A loaded model."""

    def __init__(
        self,
        executable: Executable,
        threads: int = 0,
        limits: Limits = DEFAULT_LIMITS,
        *,
        optimised: bool = True,
        deployed: bool = False,
    ) -> None:
        """Load `executable` on the CPU, with quantise-dequantise pairs computed as they stand.

        Args:
            executable: the model.
            threads: how many a run may use, 0 for as many as there are cores.
            limits: how long one may take.
            optimised: whether the graph is rewritten for speed first, which for thousands of nodes takes seconds.
            deployed: as ONNX Runtime runs it where nothing else is asked for, with integer kernels in place of pairs.

        Raises:
            NotRunnableError: ONNX Runtime refuses the model.
        """
        self._limits = limits
        self._numbers = itertools.count()
        self._native = _loaded(
            lambda: _Native(executable, threads, optimised=optimised, deployed=deployed), limits.seconds_to_load
        )

    def run(self, sample: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Values of `outputs`, at least one (all of the model's by default), for one sample.

        A sequence, an optional or a map is not a tensor and comes as an empty array of objects.

        Raises:
            NotRunnableError: the run fails or takes longer than it may.
        """
        number = next(self._numbers)
        finished: list[list[Array] | Exception] = []

        def work() -> None:
            try:
                finished.append(self._native.run(number, sample, outputs))
            except Exception as error:  # of whatever kind: handed to the thread that waits, which raises it
                finished.append(error)
            finally:
                done.set()

        # Only a thread that waits can be interrupted from the keyboard or lose its patience. It waits for an event:
        # a join that was interrupted takes the thread for ended.
        done = threading.Event()
        threading.Thread(target=work, daemon=True).start()
        try:
            in_time = done.wait(self._limits.seconds_per_run)
        finally:
            self._native.stop(number)
            done.wait(SECONDS_TO_STOP)
        if not in_time:
            raise too_long(self._limits.seconds_per_run)
        (values,) = finished
        if isinstance(values, Exception):
            raise values
        return values

    def compute(self, sample: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """`run` on this thread, for as long as it takes or until somebody stops the session.

        Raises:
            NotRunnableError: the run fails or is stopped.
        """
        return self._native.run(next(self._numbers), sample, outputs)

    def stop(self) -> None:
        """Let runs that are on their way end at the next operator, and later ones at the first."""
        self._native.stop()


def load_as_deployed(path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Load a file as a program does that asks for nothing, but for constants of any size.

    Raises:
        NotRunnableError: ONNX Runtime refuses it.
    """

    def load() -> ort.InferenceSession:
        try:
            return ort.InferenceSession(str(path), _bounded(path.stat().st_size), providers=["CPUExecutionProvider"])
        except Exception as error:  # pybind raises a dozen unrelated types
            raise NotRunnableError(_one_line(error)) from error

    _loaded(load, limits.seconds_to_load)


def _loaded(load: Callable[[], Loaded], seconds: float) -> Loaded:
    """What ONNX Runtime makes of a model; nothing stops it, so one that takes too long is left behind.

    Raises:
        NotRunnableError: it fails or takes longer.
    """
    finished = Future[Loaded]()

    def work() -> None:
        try:
            finished.set_result(load())
        except Exception as error:  # of whatever kind: handed to the thread that waits, which raises it
            finished.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return finished.result(seconds)
    except TimeoutError as error:
        raise TooLongError(f"ONNX Runtime took longer than {seconds:g} seconds to load it") from error


def _bounded(stored_bytes: int) -> ort.SessionOptions:
    """Options under which loading takes memory and time in proportion to what is stored.

    A few bytes can ask for constants of any size. One that is not made at load is made in each run, which can be
    stopped.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(_LEAST_FOLDED + stored_bytes)
    )
    return options


def too_long(seconds: float) -> TooLongError:
    """What is raised for a sample that takes longer."""
    return TooLongError(f"one sample took longer than {seconds:g} seconds, so the run was stopped")


class _Native:
    """A model inside ONNX Runtime."""

    def __init__(
        self,
        executable: Executable,
        threads: int,
        *,
        optimised: bool = True,
        deployed: bool = False,
    ) -> None:
        """Load a graph whose weights are values in memory."""
        self._running: dict[int, ort.RunOptions] = {}
        self._stopped = False
        self._optimised, self._deployed = optimised, deployed
        try:
            # The session refers to these values, so they have to live as long as it does.
            self._values = [ort.OrtValue.ortvalue_from_numpy(value) for value in executable.weights.values()]
            self._session = self._load(executable, threads)
        except Exception as error:  # pybind raises a dozen unrelated types
            raise NotRunnableError(_one_line(error)) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, number: int, feeds: Mapping[str, Array], outputs: Sequence[str] | None) -> list[Array]:
        """Compute `outputs`, all by default; `number` names the run for `stop`."""
        options = self._running[number] = ort.RunOptions()
        options.log_severity_level = 4
        # Looked at after the options can be found, so that a stop that comes now is not missed.
        options.terminate = self._stopped
        try:
            fed = {name: _fed(array) for name, array in feeds.items()}
            values = self._session.run(list(self._outputs if outputs is None else outputs), fed, options)
        except Exception as error:  # pybind raises a dozen unrelated types
            raise NotRunnableError(_one_line(error)) from error
        finally:
            self._running.pop(number, None)
        return [np.asarray(value) if isinstance(value, _TENSOR) else np.empty(0, object) for value in values]

    def stop(self, number: int | None = None) -> None:
        """End this run at the next operator, or all of them and every later one."""
        if number is None:
            self._stopped = True
        for running, options in list(self._running.items()):
            if number is None or running == number:
                options.terminate = True

    def _load(self, executable: Executable, threads: int) -> ort.InferenceSession:
        """With integer kernels whose sums cannot saturate, or as it comes where there are none for the model."""
        graph = executable.proto.SerializeToString()
        try:
            options = self._options(executable, threads, precise=True)
            return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception:  # pybind again; what is wrong with the model itself is said by the second try
            options = self._options(executable, threads, precise=False)
            return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def _options(self, executable: Executable, threads: int, *, precise: bool) -> ort.SessionOptions:
        stored, names = executable.weight_bytes, list(executable.weights)
        options = _bounded(stored + executable.proto.ByteSize())
        options.intra_op_num_threads = threads
        if not self._optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if names:
            options.add_external_initializers(names, self._values)
        if stored > _MOST_PACKED:
            # Kernels would each keep a copy of their weight in an order of their own.
            options.add_session_config_entry("session.disable_prepacking", "1")
            # What optimisers read are the values above, and each session would keep a copy of them; kernels read these.
            for name, value in zip(names, self._values, strict=True):
                options.add_initializer(name, value)
        if self._deployed:
            return options
        # Integer kernels would round differently from the operators' definition; pairs are to be what they say.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # Without VNNI a sum of two uint8 x int8 products saturates at 16 bits, which is the machine's, not the model's.
        options.add_session_config_entry("session.x64quantprecision", "1" if precise else "0")
        # Many sessions take turns on the same cores; threads that spin after a run take them from the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def _fed(array: Array) -> Any:
    """An array as ONNX Runtime takes it: of a type that numpy does not have itself, such as bfloat16, it is told."""
    if array.dtype.kind != "V" or array.dtype.fields is not None:
        return array
    stored = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(stored, kind)


def _one_line(error: Exception) -> str:
    """ONNX Runtime's message without its status code and without the C++ function that raised it; never empty."""
    if _NO_MEMORY.search(str(error)):
        return "it needs more memory than it may have; --max-memory allows more"
    text = re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ?", "", " ".join(str(error).split()))
    place = re.search(r"\S+\.(?:cc|cpp|h|hpp):\d+ [^(]*", text)
    if place is not None:
        text = text[: place.start()] + _after_parentheses(text[place.end() :])
    text = re.sub(r"^\[with [^\]]*\]", "", text.strip()).strip() or f"no reason given ({type(error).__name__})"
    return text if len(text) <= 300 else f"{text[:297]}..."


def _after_parentheses(signature: str) -> str:
    """What follows the argument list that `signature` starts with."""
    depth = 0
    for position, character in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return signature[position + 1 :].removeprefix(" const").strip() or signature
    return signature
