"""Integer element types and the codes that they hold; everything else that is known of number formats builds on it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

_T = onnx.TensorProto
CODE_RANGES: Mapping[int, tuple[int, int]] = {
    _T.INT4: (-(2**3), 2**3 - 1),
    _T.UINT4: (0, 2**4 - 1),
    _T.INT8: (-(2**7), 2**7 - 1),
    _T.UINT8: (0, 2**8 - 1),
    _T.INT16: (-(2**15), 2**15 - 1),
    _T.UINT16: (0, 2**16 - 1),
    _T.INT32: (-(2**31), 2**31 - 1),
}
"""Smallest and largest code by TensorProto.DataType, of the integer types that QuantizeLinear knows, and INT32."""
