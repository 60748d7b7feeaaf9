"""How it reads that a finding is known."""

from __future__ import annotations

from onnxlint_q.finding import Finding
from onnxlint_q.report.words.names import name, shown


def suppressed(finding: Finding) -> str:
    """Why it does not count, and where that stands: `accepted until 2.1 ([[suppress]] 1 of onnxlint-q.toml)`."""
    why = finding.suppression
    if why is None:
        return ""
    where = name(why.where)
    return f"{shown(why.reason)} ({where})" if why.reason else where
