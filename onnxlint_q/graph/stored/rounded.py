"""Tensors that a Quant of QONNX rounds: the file holds real values before and behind, and no codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.stored.sharing import numbers
from onnxlint_q.graph.tensors import Array


@dataclass(frozen=True, slots=True)
class Rounded:
    """What a Quant rounds, and with which parameters."""

    node: Node

    def read_codes(self, model: Model) -> Array | None:
        """The codes of a constant, computed from its rounded values."""
        made, scale, zero = numbers(model, self.node.output), self.read_scale(model), self.read_zero_point(model)
        if made is None or scale is None:
            return None
        with np.errstate(all="ignore"):  # parameters that are no numbers are for a rule to report
            return np.asarray(np.rint(made / scale + (0 if zero is None else zero)))

    def read_scale(self, model: Model) -> Array | None:
        """The scale; None where it is known at run time only."""
        return numbers(model, self.node.input(1))

    def read_zero_point(self, model: Model) -> Array | None:
        """The zero point; None where there is none."""
        return numbers(model, self.node.input(2)) if self.node.input(2) else None
