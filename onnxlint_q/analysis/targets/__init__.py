"""What runtimes take, refuse, or compute in their own way: facts in data files, one a target, held against a model."""

from onnxlint_q.analysis.targets.match import Breach, applies, breaches, held
from onnxlint_q.analysis.targets.profile import TARGETS, Consequence, Fact, Target, read_target
from onnxlint_q.analysis.targets.uses import Use

__all__ = ["TARGETS", "Breach", "Consequence", "Fact", "Target", "Use", "applies", "breaches", "held", "read_target"]
