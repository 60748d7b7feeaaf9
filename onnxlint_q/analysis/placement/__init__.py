"""Placement: which tensors get a scale when a float model is quantised, by each of ONNX Runtime's quantisers."""

from onnxlint_q.analysis.placement.dynamic import dynamic_tensors
from onnxlint_q.analysis.placement.gemm import added_bias, becomes_gemm
from onnxlint_q.analysis.placement.place import Placement
from onnxlint_q.analysis.placement.shared import clashing_copies, turned_again
from onnxlint_q.analysis.placement.static import (
    FLOAT_RESULTS,
    HANDS_ON,
    LAYER_TYPES,
    Placer,
    float_weights,
    is_quantized,
    is_taken_away,
    quantized_activations,
    scaled_tensors,
    stored_tensor,
)

__all__ = [
    "FLOAT_RESULTS",
    "HANDS_ON",
    "LAYER_TYPES",
    "Placement",
    "Placer",
    "added_bias",
    "becomes_gemm",
    "clashing_copies",
    "dynamic_tensors",
    "float_weights",
    "is_quantized",
    "is_taken_away",
    "quantized_activations",
    "scaled_tensors",
    "stored_tensor",
    "turned_again",
]
