"""The door: words to requests, exit codes, streams; no logic."""

from onnxlint_q.cli.door import main

__all__ = ["main"]
