"""ONNX Runtime sessions, with their failures told in one sentence."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnxlint_q.calibration.executable import Executable

Array = npt.NDArray[Any]
# An untrusted graph may loop for ever; a single sample that takes longer than this is stopped.
SECONDS_PER_RUN = 120.0


class NotRunnableError(Exception):
    """ONNX Runtime cannot load or run the model; the text says why, in one line."""


class Session:
    """A loaded model."""

    def __init__(self, executable: Executable) -> None:
        """Load `executable` on the CPU, with quantise-dequantise pairs computed as they stand.

        Raises:
            NotRunnableError: ONNX Runtime refuses the model.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # Integer kernels would round differently from the operators' definition; pairs are to be what they say.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            names = list(executable.weights)
            # The session refers to these values, so they have to live as long as it does.
            self._values = [ort.OrtValue.ortvalue_from_numpy(executable.weights[name]) for name in names]
            if names:
                options.add_external_initializers(names, self._values)
            self._session = ort.InferenceSession(
                executable.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # pybind raises a dozen unrelated types
            raise NotRunnableError(_one_line(error)) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, sample: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Values of `outputs` (all of them by default) for one sample.

        Raises:
            NotRunnableError: the run fails or takes longer than SECONDS_PER_RUN.
        """
        options = ort.RunOptions()
        options.log_severity_level = 4
        watchdog = threading.Timer(SECONDS_PER_RUN, lambda: setattr(options, "terminate", True))
        watchdog.daemon = True
        watchdog.start()
        try:
            values = self._session.run(list(outputs or self._outputs), dict(sample), options)
        except Exception as error:
            raise NotRunnableError(_one_line(error)) from error
        finally:
            watchdog.cancel()
        return [np.asarray(value) for value in values]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
