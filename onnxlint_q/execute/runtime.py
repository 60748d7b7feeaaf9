"""ONNX Runtime: the one place that imports it, when something of it is first used, and with its telemetry off.

`runtime.InferenceSession` is `onnxruntime.InferenceSession`, and so on. The official builds since 1.29 collect usage
data: at import they write a device identifier and a database into the user's cache and a file into the temporary
folder, and send events later. Only the environment decides about that, once, at import; the call afterwards is for
Windows, where events go through the system instead. A lint that runs nothing does not import it at all.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any


@cache
def _module() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: PLC0415  # after the line above, and only once somebody runs something

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def quantization() -> Any:
    """`onnxruntime.quantization`, which has to be imported by itself."""
    _module()
    import onnxruntime.quantization  # noqa: PLC0415

    return onnxruntime.quantization


def version() -> str:
    """That of the installed ONNX Runtime."""
    return str(_module().__version__)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_module(), name)
