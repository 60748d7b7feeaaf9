"""onnxlint-q: will this ONNX model survive INT8, where does it break, why, and what to do."""

__version__ = "0.1.0"
