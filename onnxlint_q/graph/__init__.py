"""READ: a file becomes a Model. Nothing is executed, nothing outside the model's folder is opened."""

from onnxlint_q.graph.layers import Layer, find_layers, is_integer_graph
from onnxlint_q.graph.loading.load import read_model
from onnxlint_q.graph.model import Model, Node, TensorType, Value
from onnxlint_q.graph.operators import Operator, Trait, lookup
from onnxlint_q.graph.qparams import Format, QuantizedTensor, Role, detect_format, find_quantized_tensors
from onnxlint_q.graph.trace import Trace, trace_back, trace_forward

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
    "detect_format",
    "find_layers",
    "find_quantized_tensors",
    "is_integer_graph",
    "lookup",
    "read_model",
    "trace_back",
    "trace_forward",
]
