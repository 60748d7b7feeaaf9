"""Node names: one of its own for every node that a quantiser handles, and for every node that shares one.

Exclude lists go by name, and a node without a name cannot be on one. ONNX Runtime does not load a graph in which two
nodes share a name. A node that lacks one is called after its operator and its result, `Conv_features`; of nodes that
share a name the first keeps it. Names say nothing about what is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.placement import is_quantized
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import ROOT
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety


@dataclass(frozen=True, slots=True)
class NodeName(Candidate):
    """A node that has no name of its own.

    Attributes:
        old: its name, empty or that of another node too.
        name: the new one.
    """

    old: str
    name: str

    @property
    def change(self) -> str:
        """The old name and the new one."""
        return f"its node {repr(self.old) if self.old else 'without a name'} is called {self.name!r}"


def find(measured: Measured, _: Observations | None) -> Iterator[NodeName]:
    """Every node of the main graph whose name is taken, or missing where the static quantiser handles it."""
    model = measured.model
    taken, kept = {node.name for node in model.nodes}, set[str]()
    for node in model.nodes:
        if node.graph != ROOT or not node.output:
            continue
        if node.name and node.name not in kept:
            kept.add(node.name)
        elif node.name or is_quantized(node):
            name = _free(f"{node.op_type}_{node.output}", taken)
            taken.add(name)
            yield NodeName(node.output, node.name, name)


def _free(wanted: str, taken: set[str]) -> str:
    names = itertools.chain([wanted], (f"{wanted}_{number}" for number in itertools.count(1)))
    return next(name for name in names if name not in taken)


def apply(model: Model, wanted: Sequence[NodeName]) -> Model:
    """A copy of the model in which these nodes have their new names."""
    edit = Edit(model)
    for one in wanted:
        edit.node(one.tensor).name = one.name
    return edit.done()


REWRITE = Rewrite(
    name="node-names",
    what="nodes named",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    moves_values=False,
)
