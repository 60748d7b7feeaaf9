"""Remedies as calls of ONNX Runtime's `quantize_static`, to be typed as they stand.

They need `import numpy as np` and, from `onnxruntime.quantization`, `CalibrationMethod`, `QuantFormat`, `QuantType`
and `quantize_static`; the three dots stand for the float model, the file to write and the calibration data.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnxlint_q.analysis.number_formats import INT4, INT8, UINT8, UINT16, NumberFormat
from onnxlint_q.analysis.schemes import PER_CHANNEL, PER_TENSOR, Scheme
from onnxlint_q.calls import quantize_static_call
from onnxlint_q.finding import Requantisation, TensorRange

_ACTIVATIONS = {
    # Not the quantiser's default, which is signed.
    UINT8: ("activation_type=QuantType.QUInt8",),
    INT8: ("activation_type=QuantType.QInt8", 'extra_options={"ActivationSymmetric": True}'),
    UINT16: ("activation_type=QuantType.QUInt16",),
}
_WEIGHTS = {INT8: (), INT4: ("weight_type=QuantType.QInt4",)}
_SHARING = {PER_TENSOR: (), PER_CHANNEL: ("per_channel=True",)}


def scheme_options(scheme: Scheme) -> tuple[str, ...] | None:
    """The options that quantise under a scheme; None where `quantize_static` has no such scheme."""
    if not scheme.is_calibrated:
        return None
    if scheme.activations not in _ACTIVATIONS or scheme.weights not in _WEIGHTS or scheme.sharing not in _SHARING:
        return None
    return (*_ACTIVATIONS[scheme.activations], *_WEIGHTS[scheme.weights], *_SHARING[scheme.sharing])


def requantised(change: Requantisation, activations: NumberFormat | None = None) -> str:
    """The call that makes this change; empty where no file could hold the result.

    Args:
        change: what is changed.
        activations: their format where it is to be said: that of a call that was tried.
    """
    if not change.possible:
        return ""
    kind = _ACTIVATIONS[activations] if activations is not None else ()
    per_channel = ["per_channel=True"] if change.per_channel else []
    return quantize_static_call(
        *kind, *per_channel, *([overrides(change.ranges)] if change.ranges else []), *change.options
    )


def overrides(ranges: Iterable[TensorRange]) -> str:
    """The option that gives tensors other ranges."""
    given = ", ".join(f"{one.tensor!a}: [{{{_ends(one)}}}]" for one in ranges)
    return f"extra_options={{'TensorQuantOverrides': {{{given}}}}}"


def _ends(one: TensorRange) -> str:
    # The quantiser asks the ends for their element type, which a plain number does not have.
    return f"'rmin': np.float32({one.low:.6g}), 'rmax': np.float32({one.high:.6g})"
