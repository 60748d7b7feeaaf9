"""What a reader wants first of a model, for every format made for people: ship it or not, why it fails, what to do."""

from onnxlint_q.report.front.actions import Action, actions
from onnxlint_q.report.front.cause import Why, reasons, undermines
from onnxlint_q.report.front.decision import MADE_UP, Call, Decision, because, decide, decisions, headline, worst

__all__ = [
    "MADE_UP",
    "Action",
    "Call",
    "Decision",
    "Why",
    "actions",
    "because",
    "decide",
    "decisions",
    "headline",
    "reasons",
    "undermines",
    "worst",
]
