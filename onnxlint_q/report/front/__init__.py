"""What a reader wants first of a model, for every format made for people: why it fails, and what to do."""

from onnxlint_q.report.front.actions import Action, actions
from onnxlint_q.report.front.cause import Why, reasons, undermines

__all__ = ["Action", "Why", "actions", "reasons", "undermines"]
