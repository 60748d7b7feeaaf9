"""Graphs that compute with integers from end to end and hold no scale.

Toolchains for microcontrollers export a network after quantisation: the weights are the codes themselves, whole
numbers in float tensors because ONNX's operators want floats, and a layer's sums are brought back to 8 bits by a
multiplication and a shift: by operators that round down, or one of the toolchain's own. What a code stands for is in no
tensor of the file.

They are told by their numbers and by that rounding. Every layer's weight is whole and fits 16 bits, and where a weight
has some size it holds more different numbers than anybody writes down by hand (a Sobel or a binomial kernel has up to
five magnitudes).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onnxlint_q.graph.layers import Layer
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.tensors import Array

_LARGEST = 2**15
# So many values hold so many different numbers at least; four bits have 16 codes.
_VALUES, _DIFFERENT = 64, 12
_ROUND = frozenset({"Floor", "Round", "Ceil", "BitShift"})


def is_integer_graph(model: Model, layers: Iterable[Layer]) -> bool:
    """Whether these layers, all of the model, are float operators on integer codes.

    Raises:
        ModelError: a weight cannot be read.
    """
    if not any(node.op_type in _ROUND or not node.operator.known for node in model.nodes):
        return False
    different = 0
    for layer in layers:
        weight = layer.read_weight(model)
        if not layer.is_float or not _is_whole(weight):
            return False
        if weight.size >= _VALUES:
            different = np.unique(weight).size
            if different < _DIFFERENT:
                return False
    return different > 0


def _is_whole(weight: Array) -> bool:
    return bool(np.all(np.abs(weight) <= _LARGEST) and np.all(weight == np.rint(weight)))
