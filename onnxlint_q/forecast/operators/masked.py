"""What a mask does where it rules positions out, although none is ruled out in the samples.

Calibration data holds padding, so the range of a tensor holds what a mask puts there, such as -3.4e38 in front of
Softmax. Tensors that depend on a mask alone, and those into which nothing but moves and functions of one place carry
it, are worked out a second time, for a mask that rules all out.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping

import numpy as np

from onnxlint_q.forecast.population import Samples
from onnxlint_q.forecast.step import Site, TransferRule
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Node, Trait
from onnxlint_q.graph.settled import Settled
from onnxlint_q.graph.tensors import Array

_CARRIES = Trait.MOVES | Trait.COPIES | Trait.ELEMENTWISE


class Masked:
    """Collects what such tensors hold, node after node in data order.

    Attributes:
        extremes: smallest and largest value by tensor key, of those that are not settled.
    """

    def __init__(self, settled: Settled, ruled_out: Mapping[str, Array]) -> None:
        """Start with what the inputs hold."""
        self.extremes: dict[str, tuple[float, float]] = {}
        self._settled = settled.beside(ruled_out)
        self._values = dict(ruled_out)
        self._samples: dict[str, Samples] = {}

    def settle(self, node: Node) -> None:
        """A node whose result depends on masks and constants alone."""
        if not self._values.keys().isdisjoint(node.inputs) and self._settled.add(node):
            self._values[node.output] = self._settled.values[node.output]

    def follow(self, site: Site, rules: Mapping[str, TransferRule]) -> None:
        """Any other node, as far as the mask is carried through it."""
        node = site.node
        rule = rules.get(node.op_type) if node.operator.has(_CARRIES) else None
        if rule is None or (self._values.keys() | self._samples.keys()).isdisjoint(node.inputs):
            return
        known = ChainMap(self._samples, dict(site.known))
        values = ChainMap(self._values, dict(site.settled))
        try:
            made = rule(Site(site.model, node, known, values, site.shapes)).outputs
        except UnmodelledError:
            return
        for key, samples in zip(node.outputs, made, strict=False):
            if key and samples.size:
                self._samples[key] = samples
                self.extremes[key] = float(np.min(samples)), float(np.max(samples))
