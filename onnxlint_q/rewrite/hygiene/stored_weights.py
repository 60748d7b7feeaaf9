"""Weights and biases that other nodes make of stored ones: stored as layers read them.

Exporters put an Identity, Transpose or Cast between a weight and its layer, or keep it in a Constant node. A quantiser
that takes the graph as it stands finds no weight there: the tensor gets one scale with unsigned codes, like an
activation. Layers whose weights are made alike go on sharing one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety


@dataclass(frozen=True, slots=True)
class Stored(Candidate):
    """A layer whose weight or bias is made by nodes.

    Attributes:
        slot: of its inputs.
        made: key of what it reads so far.
        what: `weight` or `bias`.
        maker: operator that makes it.
    """

    slot: int
    made: str
    what: str
    maker: str

    @property
    def change(self) -> str:
        """What no longer makes it."""
        return f"its {self.what} is an initializer, and no longer the result of a {self.maker}"


def find(measured: Measured, _: Observations | None) -> Iterator[Stored]:
    """Every layer of a float model whose weight or bias is constant and no initializer."""
    model = measured.model
    for folded in measured.folded if measured.is_float else ():
        for layer in folded.layer.operands:
            parts = [("weight", layer.weight_slot, layer.weight)]
            if layer.is_product and layer.inputs.bias is not None:
                parts.append(("bias", layer.inputs.bias, layer.bias))
            for what, slot, key in parts:
                maker = model.producer(key)
                if maker is not None and model.is_constant(key):
                    yield Stored(layer.output, slot, key, what, maker.op_type)


def apply(model: Model, wanted: Sequence[Stored]) -> Model:
    """A copy of the model in which these layers read initializers; nodes that nothing else reads go."""
    edit = Edit(model)
    stored: dict[Hashable, str] = {}
    for one in wanted:
        what = model.constants.made_of(_behind_identities(model, one.made))
        if what not in stored:
            known = isinstance(what, str) and what in {tensor.name for tensor in model.proto.graph.initializer}
            like = f"{one.made.rpartition('/')[2]}_stored"
            stored[what] = str(what) if known else edit.constant(model.constants[one.made], like)
        edit.read(one.tensor, one.slot, stored[what])
    return edit.done()


def _behind_identities(model: Model, key: str) -> str:
    while (node := model.producer(key)) is not None and node.op_type == "Identity" and node.is_standard:
        key = node.input(0)
    return key


REWRITE = Rewrite(
    name="stored-weights",
    what="weights stored as layers read them",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    moves_values=False,
)
