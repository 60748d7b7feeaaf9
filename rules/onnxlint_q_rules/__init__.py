"""The built-in rules of onnxlint-q, one module a rule."""
