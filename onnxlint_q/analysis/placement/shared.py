"""Constants that several layers share, and that ONNX Runtime's quantisers spoil for that (1.32.0).

- `quantize_static` copies a bias for every reader but the first, under the bias's name and a number: one more than the
  largest behind any initializer called so (`QDQQuantizer._dup_initializer`). It looks at initializers alone. Where
  another tensor has that name, what reads the tensor reads the bias: mostly the file does not load, else it is wrong.
  Biases of layers count here, and tensors that are there with and without `quant_pre_process`; those of
  normalisations are copied, too.
- `quantize_dynamic` stores W and R of an LSTM with their last two axes exchanged, and does so again in place for the
  next LSTM that reads them (operators/lstm.py). With one scale for the tensor the file runs and is wrong wherever
  `4 hidden` rows of values then stand for columns; with one scale a channel its runs fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.placement.gemm import added_bias
from onnxlint_q.analysis.placement.static import is_taken_away
from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.names import ROOT

# The preparation leaves out what only hands values on.
_HANDS_ON = frozenset({"Identity", "Dropout"})


def clashing_copies(model: Model, layers: Iterable[FoldedLayer]) -> Mapping[str, str]:
    """Shared biases whose copy gets a name that is taken: the tensor of that name, by key of the bias.

    Args:
        model: the graph.
        layers: those that `quantize_static` quantises, in the order of the file.
    """
    initializers = {tensor.name for tensor in model.proto.graph.initializer}
    layers = tuple(layers)
    free: dict[str, float] = dict.fromkeys((value.name for value in model.inputs), math.inf)
    free.update(_free(model, layers))
    seen: set[str] = set()
    clashing: dict[str, str] = {}
    for node, bias in _stored_biases(model, layers):
        if bias not in seen:
            seen.add(bias)
            continue
        copy = f"{bias}{_largest_number(bias, initializers) + 1}"
        initializers.add(copy)
        if free.get(copy, -1) > node.order:
            clashing.setdefault(bias, copy)
    return clashing


def _stored_biases(model: Model, layers: Iterable[FoldedLayer]) -> Iterator[tuple[Node, str]]:
    """Which layers add what to their product, as the file stores it; folding makes a new one."""
    for folded in layers:
        key = folded.layer.bias
        if key and not folded.is_folded and model.constants.initializer(key) is not None:
            yield folded.layer.node, model.constants.origin(key)


def _free(model: Model, layers: Iterable[FoldedLayer]) -> Iterator[tuple[str, float]]:
    """From which node on the name of a result is free: that which absorbs it, else never.

    Names that the preparation or nobody reads are left out.
    """
    gone = {layer.layer.output for layer in layers if layer.after is not None}
    read = {value.name for value in model.outputs}
    for node in model.nodes:
        if node.graph != ROOT or node.op_type in _HANDS_ON or added_bias(model, node) is not None:
            continue
        for name in node.outputs:
            if name and name not in gone and (name in read or model.consumers(name)):
                reader = model.sole_consumer(name)
                yield name, reader.order if reader is not None and is_taken_away(reader) else math.inf


def _largest_number(prefix: str, names: Iterable[str]) -> int:
    """Largest number behind a prefix, -1 where none is there."""
    largest = -1
    for name in names:
        behind = name.removeprefix(prefix) if name.startswith(prefix) else ""
        try:
            largest = max(largest, int(behind))
        except ValueError:
            continue
    return largest


def turned_again(model: Model, layers: Iterable[Layer]) -> Iterator[tuple[Layer, str]]:
    """LSTM that read a weight which one before them has read: each with the stored weight's name, W before R.

    Args:
        model: the graph.
        layers: those that `quantize_dynamic` quantises, in the order of the file.
    """
    seen: set[str] = set()
    for layer in layers:
        if layer.op_type != "LSTM":
            continue
        # Rows of one value are columns as well.
        own = [model.constants.origin(part.weight) for part in layer.operands if part.weight_shape[-1] > 1]
        yield from ((layer, origin) for origin in own if origin in seen)
        seen.update(own)
