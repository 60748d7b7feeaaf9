"""Findings that somebody knows of: who said so, where, and what of it is out of date."""

from onnxlint_q.judge.suppression.apply import Sorted, sort_out
from onnxlint_q.judge.suppression.baseline import Baseline, Known, KnownModel, known_model
from onnxlint_q.judge.suppression.entry import Entry, Suppressing

__all__ = ["Baseline", "Entry", "Known", "KnownModel", "Sorted", "Suppressing", "known_model", "sort_out"]
