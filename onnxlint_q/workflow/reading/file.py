"""What a file is, beside its graph."""

from __future__ import annotations

from pathlib import Path

from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.external import stored_bytes
from onnxlint_q.workflow.reading.values import FileFacts


def file_facts(model: Model, configuration: Path | None = None) -> FileFacts:
    """Of the file that a model was read from, and the configuration that applied."""
    producer = f"{model.proto.producer_name} {model.proto.producer_version}".strip()
    source = str(configuration) if configuration is not None else ""
    return FileFacts(stored_bytes(model.path), producer, model.proto.ir_version, source)
