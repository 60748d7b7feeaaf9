"""READ: a file becomes a Model. Nothing is executed, nothing outside the model's folder is opened."""

from onnxlint_q.graph.layers import Layer, find_layers
from onnxlint_q.graph.loading.load import read_model
from onnxlint_q.graph.model import Model, Node, TensorType, Value
from onnxlint_q.graph.operators import Operator, Trait, lookup
from onnxlint_q.graph.qparams import Format, detect_format, find_quantized_tensors
from onnxlint_q.graph.stored.tensor import QuantizedTensor, Role
from onnxlint_q.graph.trace import Trace, channel_axis, followed_by, preceded_by, trace_back, trace_forward

__all__ = [
    "Format",
    "Layer",
    "Model",
    "Node",
    "Operator",
    "QuantizedTensor",
    "Role",
    "TensorType",
    "Trace",
    "Trait",
    "Value",
    "channel_axis",
    "detect_format",
    "find_layers",
    "find_quantized_tensors",
    "followed_by",
    "lookup",
    "preceded_by",
    "read_model",
    "trace_back",
    "trace_forward",
]
