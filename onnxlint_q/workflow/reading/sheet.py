"""Everything known of one tensor, found by its name or that of its operator, and what values become there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from onnxlint_q.analysis.grid import Grid, grid
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import codes
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.graph import Node, QuantizedTensor
from onnxlint_q.graph.operators import Trait
from onnxlint_q.workflow.reading.activations import Scales, shape_text
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Rounded,
    RoundedValues,
    TensorSheet,
)
from onnxlint_q.workflow.reading.qparams import stored_name

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.rounding import ActivationScale

_READERS = 4
_CHANNELS = 5
# Names that are searched for one that is spelt alike: the search compares each with the word.
_SEARCHED = 5000


def names_of(measured: Measured) -> tuple[str, ...]:
    """Every name by which a tensor or an operator can be asked for."""
    model = measured.model
    tensors = (vertex for vertex in model.flow if isinstance(vertex, str))
    return tuple(dict.fromkeys(filter(None, (*tensors, *(node.name for node in model.nodes)))))


def unknown_tensor(name: str, files: Sequence[Measured]) -> UsageError:
    """That no file has it, with names that are near."""
    known = list(dict.fromkeys(one for measured in files for one in names_of(measured)))
    near = [one for one in known if name.casefold() in one.casefold()][:3] if name else []
    paths = " and ".join(str(measured.model.path) for measured in files)
    hint = f" (did you mean {' or '.join(repr(one[:200]) for one in near)}?)" if near else ""
    return UsageError(
        f"--tensor {name[:200]!r}: no tensor or operator of {paths} has this name"
        f"{hint or did_you_mean(name[:200], [one[:200] for one in known[:_SEARCHED]])}; without --tensor, --verbose "
        "lists all that is told"
    )


def nodes_named(measured: Measured, name: str) -> tuple[Node, ...]:
    """The operators of that name; several may share one."""
    return tuple(node for node in measured.model.nodes if node.name == name)


def tensor_sheet(
    measured: Measured, told: InspectedModel, observations: Observations | None, name: str
) -> TensorSheet | None:
    """All that is told of `name`; None where the file has nothing of that name."""
    model = measured.model
    named = nodes_named(measured, name)
    tensors = {name} if name in model.flow else set()
    tensors |= {key for node in named for key in node.outputs if key}
    if not tensors:
        return None
    # The same value under other names: its codes, and what is made from them.
    around = {producer for key in tensors if (producer := model.producer(key)) is not None}
    around |= {reader for key in tensors for reader in model.consumers(key)}
    held = {key for node in around if node.operator.has(Trait.QUANTIZES) for key in (node.input(0), node.output)}
    same = tensors | (held if any(key in held for key in tensors) else set())
    norm_nodes = {node.output for node in around if node.op_type == "BatchNormalization"} & (
        tensors | _gammas(around, name)
    )
    layers = {layer.output: layer for layer in measured.layers}
    seen = (
        next((observations.tensors[key] for key in same if key in observations.tensors), None) if observations else None
    )
    return TensorSheet(
        name=name,
        facts=tuple(_facts(measured, sorted(tensors), named)),
        qparams=tuple(row for row in told.qparams if row.tensor in same or row.codes in same),
        activations=tuple(row for row in told.activations if row.tensor in same),
        weights=tuple(
            row
            for row in told.weights
            if row.tensor == name or row.output in tensors or layers[row.output].folded.layer.output in tensors
        ),
        norms=tuple(row for row in told.norms if row.output in norm_nodes),
        channels=_channels(seen.channels.low, seen.channels.high) if seen is not None and seen.channels else (),
    )


def _gammas(nodes: Iterable[Node], name: str) -> set[str]:
    """Outputs of the normalisations that have `name` as a parameter."""
    return {node.output for node in nodes if name in node.inputs[1:5]}


def _facts(measured: Measured, tensors: Sequence[str], named: Sequence[Node]) -> Iterable[tuple[str, str]]:
    model = measured.model
    for node in named:
        yield "operator", node.qualified_type
    for key in tensors:
        if named:
            yield "tensor", key
        known = model.types.get(key)
        if known is not None and known.elem_type in onnx.TensorProto.DataType.values():
            yield "type", onnx.TensorProto.DataType.Name(known.elem_type).lower()
        yield "shape", shape_text(model, key)
        producer = model.producer(key)
        if producer is not None:
            yield "made by", f"{producer.name or producer.output} ({producer.op_type})"
        elif model.is_constant(key):
            yield "made by", "nothing: it is stored in the file"
        elif key in {value.name for value in model.inputs}:
            yield "made by", "nothing: it is an input of the model"
        readers = model.consumers(key)
        some = ", ".join(f"{node.name or node.output} ({node.op_type})" for node in readers[:_READERS])
        if readers:
            yield "read by", some + (f" and {len(readers) - _READERS} more" if len(readers) > _READERS else "")
        if key in model.output_names:
            yield "output", "of the model"


def _channels(low: np.ndarray, high: np.ndarray) -> tuple[tuple[int, float, float], ...]:
    widest = np.argsort(low - high, kind="stable")[:_CHANNELS].tolist()
    return tuple((index, float(low[index]), float(high[index])) for index in widest)


def rounded_values(measured: Measured, scales: Scales, name: str, values: Sequence[float]) -> RoundedValues | None:
    """What values become at the scale and zero point of a tensor; None where the file has nothing of that name.

    Raises:
        UsageError: it has no such pair, or several.
    """
    model = measured.model
    tensors = {name} if name in model.flow else set()
    tensors |= {key for node in nodes_named(measured, name) for key in node.outputs if key}
    if not tensors:
        return None
    found = [pair for pair in measured.quantized if tensors & _names(measured, pair)]
    made = next((scales[key] for key in sorted(tensors) if key in scales), None)
    if found:
        held = {at: pair for pair in reversed(found) if (at := grid(model, pair)) is not None}
        if not held:
            raise UsageError(
                f"--values: {name[:200]!r} of {model.name} has no one scale and zero point of integers: there is one a "
                "channel or block, or they are known at run time only; name another tensor"
            )
        if len(held) > 1:
            some = " or ".join(repr(pair.codes[:200]) for pair in list(held.values())[:_READERS])
            raise UsageError(
                f"--values: {name[:200]!r} of {model.name} is quantised with {len(held)} different scales; name the "
                f"codes of one of them: {some}"
            )
        ((at, pair),) = held.items()
        return _rounded(stored_name(model, pair), at, "the file", values)
    if made is None:
        raise UsageError(
            f"--values: nothing in {model.name} says which scale {name[:200]!r} has; name a tensor that is quantised, "
            "or for a float model give samples with --calibrate"
        )
    return _rounded(made.tensor, _grid(made), "the quantiser, ranges of the samples", values)


def _grid(made: ActivationScale) -> Grid:
    return Grid(float(made.scale), made.zero_point, made.number)


def _names(measured: Measured, pair: QuantizedTensor) -> set[str]:
    return {pair.tensor, pair.codes, stored_name(measured.model, pair), pair.node.output}


def _rounded(tensor: str, held: Grid, origin: str, values: Sequence[float]) -> RoundedValues:
    exact = np.asarray(values, np.float32)
    low, high = held.bounds
    return RoundedValues(
        tensor=tensor,
        dtype=held.number.name,
        scale=held.scale,
        zero_point=held.zero_point,
        low=held.low,
        high=held.high,
        origin=origin,
        values=tuple(
            Rounded(value, code, back, not low <= value <= high)
            for value, code, back in zip(
                values,
                codes(exact, held.scale, held.number, held.zero_point).tolist(),
                held.round_trip(exact).tolist(),
                strict=True,
            )
        ),
    )
