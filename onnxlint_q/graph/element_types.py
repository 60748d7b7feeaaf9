"""Element types: the codes that integers hold, on which all that is known of number formats builds, and the floats."""

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
FLOATS = frozenset({_T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BFLOAT16})
"""The types that networks compute in: floating point, and none that only holds codes, as float8 does."""
CODES = frozenset(CODE_RANGES) - {_T.INT32}
"""The types that weights and activations are stored in."""
HALF = _T.FLOAT16
"""The type of float16."""
QUANTISED_FLOATS = frozenset({_T.FLOAT, HALF})
"""The types of weights that ONNX Runtime's quantisers write codes of; those of others stay as they are."""
FLOAT8 = frozenset({_T.FLOAT8E4M3FN, _T.FLOAT8E4M3FNUZ, _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ})
"""The types of codes that are small floating-point numbers."""


def integer_name(ends: tuple[int, int]) -> str:
    """What integer codes between two ends are called: `uint8`, `int3`."""
    low, high = ends
    return f"{'' if low < 0 else 'u'}int{(high - low).bit_length()}"


def integer_type(ends: tuple[int, int]) -> int:
    """TensorProto.DataType of integer codes between two ends, 0 where ONNX has none of as many bits."""
    names = {integer_name(known): elem_type for elem_type, known in CODE_RANGES.items()}
    return names.get(integer_name(ends), 0)


def type_name(elem_type: int) -> str:
    """What a TensorProto.DataType is called, `float`, `uint8`; empty where it is unknown."""
    known = elem_type in _T.DataType.values() and elem_type != _T.UNDEFINED
    return _T.DataType.Name(elem_type).lower() if known else ""
