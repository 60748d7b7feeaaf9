"""Quantised files, written with ONNX Runtime's quantisers."""
