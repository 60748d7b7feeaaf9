"""Factors of channels: what a layer reads is divided in front of it, and its weight takes the factors up.

Layers `y_j = sum_c t_c w_cj` read `t`, and others may read it as well: a residual sum, a table of outputs. With

    t_c' = t_c * (1 / s_c),        w_cj' = s_c w_cj

`y` is what it was for any `s_c > 0` (Xiao et al., SmoothQuant, arXiv 2211.10438, eq. 3), and `t` too: the others read
it as before. This needs no gain that could take the factors up, so it works behind a GELU and in front of a residual
sum. It costs one multiplication in float for each value of `t`. Factors are powers of two, so that nothing is rounded.

It helps under schemes that give codes to what layers read and to nothing else: layers only, and dynamic ones. Where
`t` has codes itself, these are as coarse as before.

Few channels reach far as a rule, and only these need a factor: all that reach beyond a level come down to it. Of
several levels that with the least noise is taken. Layers that share a weight share their factors, so that there is
still one weight: they are found from what all of them read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from onnx import helper

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations
from onnxlint_q.graph import Layer, Model, channel_axis, find_layers
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety
from onnxlint_q.rewrite.rows import has_rows, row_axis, rows
from onnxlint_q.rewrite.strength import level_divisor

NAME = "reader-factors"


@dataclass(frozen=True, slots=True)
class ReaderFactors(Candidate):
    """A tensor that is divided in front of the layers that read it.

    Attributes:
        readers: keys of these layers.
        factors: what each channel is divided by; powers of two.
    """

    readers: tuple[str, ...]
    factors: tuple[float, ...]

    @property
    def change(self) -> str:
        """How many channels, by how much."""
        changed = [factor for factor in self.factors if factor != 1]
        ends = f"{min(changed):g}" if min(changed) == max(changed) else f"{min(changed):g} to {max(changed):g}"
        layers = (
            f"{len(self.readers)} layer{'s' * (len(self.readers) != 1)} that read{'s' * (len(self.readers) == 1)} it"
        )
        return f"{len(changed)} channel{'s' * (len(changed) != 1)} divided by {ends} in front of {layers}"


def find(measured: Measured, observations: Observations | None) -> Iterator[ReaderFactors | Refusal]:
    """Every tensor that layers read, where what stands between layers stays in float and a run saw its channels."""
    if observations is None or not all(scheme.is_of_reads for scheme in measured.schemes):
        return
    model = measured.model
    readers: dict[str, list[Layer]] = defaultdict(list)
    of_weight: dict[str, set[str]] = defaultdict(set)
    for layer in (folded.layer for folded in measured.folded):
        of_weight[layer.weight].add(layer.input)
        if has_rows(layer) and model.producer(layer.input) is not None:
            readers[layer.input].append(layer)
    alike: dict[Hashable, dict[str, ChannelObservation]] = defaultdict(dict)
    for tensor, layers in readers.items():
        seen = _seen(model, tensor, layers, observations)
        if isinstance(seen, Refusal):
            yield seen
        else:
            alike[tuple(layer.weight for layer in layers)][tensor] = seen
    for tensors in alike.values():
        layers = readers[next(iter(tensors))]
        if any(not of_weight[layer.weight] <= tensors.keys() for layer in layers):
            yield from (
                Refusal(tensor, "other layers read its weights together with other tensors") for tensor in tensors
            )
            continue
        divisor = _divisor(measured, layers, reduce(or_, tensors.values()))
        for tensor in tensors:
            if divisor is None:
                yield Refusal(tensor, "the weights that read it would lose as much as it gains")
            else:
                yield ReaderFactors(tensor, tuple(layer.output for layer in readers[tensor]), divisor)


def _seen(
    model: Model, tensor: str, layers: Sequence[Layer], observations: Observations
) -> ChannelObservation | Refusal:
    known, shape = observations.tensors.get(tensor), model.shape(tensor)
    if known is None or known.channels is None or shape is None or channel_axis(model, tensor) != len(shape) - 1:
        return Refusal(tensor, "its channels were not told apart")
    if not (np.isfinite(known.channels.low).all() and np.isfinite(known.channels.high).all()):
        return Refusal(tensor, "its values are not finite")
    if any(layer.weight_shape[row_axis(layer)] != known.channels.low.size for layer in layers):
        return Refusal(tensor, "the layers that read it have other channels than it has")
    return known.channels


def _divisor(measured: Measured, layers: Sequence[Layer], seen: ChannelObservation) -> tuple[float, ...] | None:
    weights = [rows(measured.model, layer) for layer in layers]
    if not all(np.isfinite(weight).all() for weight in weights):
        return None
    divisor = level_divisor(seen, weights, per_channel=all(scheme.per_channel for scheme in measured.schemes))
    return None if divisor is None else tuple(map(float, divisor))


def apply(model: Model, wanted: Iterable[ReaderFactors]) -> Model:
    """A copy of the model with all these factors; weights that were shared and change alike are shared again."""
    edit = Edit(model)
    layers = {layer.output: layer for layer in find_layers(model)}
    made: dict[Hashable, str] = {}
    for one in wanted:
        divided = edit.free_name(f"{one.tensor}_divided")
        factors = np.asarray(one.factors)
        for reader in one.readers:
            layer = layers[reader]
            weight = layer.weight, row_axis(layer), one.factors
            if weight not in made:
                stored = model.constants[layer.weight]
                value = np.moveaxis(np.moveaxis(stored, row_axis(layer), -1) * factors, -1, row_axis(layer))
                made[weight] = edit.constant(value.astype(stored.dtype), f"{layer.weight}_scaled")
            edit.read(reader, layer.weight_slot, made[weight])
            edit.read(reader, layer.node.inputs.index(one.tensor), divided)
        inverse = one.factors, "inverse"
        if inverse not in made:
            kind = model.constants[layers[one.readers[0]].weight].dtype
            made[inverse] = edit.constant((1 / factors).astype(kind), "inverse_factors")
        edit.insert_after(one.tensor, [helper.make_node("Mul", [one.tensor, made[inverse]], [divided], name=divided)])
    return edit.done()


REWRITE = Rewrite(
    name=NAME,
    what="channels divided in front of the layers that read them",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    adds_nodes=lambda model: any(map(has_rows, find_layers(model))),
)
