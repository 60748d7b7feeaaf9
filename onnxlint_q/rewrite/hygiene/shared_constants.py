"""Weights and biases that several nodes read: one for each reader that stores it another way.

A bias is stored in steps of `s_x s_w`, of the input's scale and the weight's, so it has as many scales as readers; a
file with one bias fits the first of them (`q_b = round(b / (s_x s_w))` is wrong by the ratio for the others). A weight
serves all layers that read it alike, but with one scale a channel it needs another axis where a Gemm reads it
transposed, and another format where a table look-up reads it as well. `quantize_dynamic` stores W and R of an LSTM
anew for each LSTM, and the first is wrong then. The values stay what they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety


@dataclass(frozen=True, slots=True)
class OwnConstant(Candidate):
    """A layer that gets a constant of its own.

    Attributes:
        slot: of its inputs.
        shared: key of the constant that it reads so far.
        what: `weight` or `bias`.
        way: how it is stored; those that share a constant and a way share the copy.
    """

    slot: int
    shared: str
    what: str
    way: Hashable = None

    @property
    def change(self) -> str:
        """Which constant is no longer shared."""
        return f"it gets its own copy of the {self.what} {self.shared!r}"


def own_constants(measured: Measured, _: Observations | None = None) -> Iterator[OwnConstant]:
    """Layers behind the first reader of a bias, and behind the first of a weight that it is stored otherwise for."""
    model, dynamic = measured.model, any(scheme.is_dynamic for scheme in measured.schemes)
    first: dict[str, tuple[Hashable, Node]] = {}
    uses = {
        (layer.node, slot): (what, way)
        for folded in measured.folded
        for layer in folded.layer.operands
        if layer.is_float
        for what, slot, way in _uses(layer, dynamic=dynamic)
    }
    for node in model.nodes:
        if node.output in model.constants:
            continue  # it only hands the constant on
        for slot, key in enumerate(node.inputs):
            if not key or not model.is_constant(key) or model.constants.initializer(key) is None:
                continue
            what, way = uses.get((node, slot), ("", None))
            known, reader = first.setdefault(key, (way, node))
            if what and reader is not node and (what == "bias" or way != known):
                yield OwnConstant(node.output, slot, key, what, way)


def _uses(layer: Layer, *, dynamic: bool) -> Iterator[tuple[str, int, Hashable]]:
    """What the layer reads as weight or bias: which, where, and how it is stored once it is quantised."""
    turned = layer.output if dynamic and layer.op_type == "LSTM" else None
    yield "weight", layer.weight_slot, (layer.inputs.product, layer.channel_axis, layer.group, turned)
    if layer.bias and layer.inputs.bias is not None and layer.is_product:
        yield "bias", layer.inputs.bias, layer.output


def apply(model: Model, wanted: Sequence[OwnConstant]) -> Model:
    """A copy of the model in which these layers share nothing; those that store a weight alike share one copy."""
    edit = Edit(model)
    copies: dict[Hashable, str] = {}
    for one in wanted:
        held = one.shared, one.way
        if held not in copies:
            copies[held] = edit.constant(model.constants[one.shared], f"{one.shared.rpartition('/')[2]}_own")
        edit.read(one.tensor, one.slot, copies[held])
    return edit.done()


REWRITE = Rewrite(
    name="shared-constants",
    what="shared weights and biases given to each reader",
    safety=Safety.EXACT,
    find=own_constants,
    apply=apply,
    moves_values=False,
)
