"""Where a fact about a target applies.

The conditions of a fact, all of which have to hold:

- `operators`: names of the operator; `domain`: of these.
- `coded`: whether the operator itself takes codes, as QLinearConv does, or stands between pairs.
- `operand`: activation, weight, bias, constant or result; a list for any of them.
- `types`, `beside`, `result_types`: element types of its codes, of those of the other factor, and of the result's.
- `result`: whether the result is quantised again.
- `scales`: one, several, or blocks.
- `zero_points`: several (more than one stored), differ, zero, nonzero, given, omitted, or over-65504.
- `axis`: of several scales: inputs (not that of the weight's outputs), or the number that it must not be.
- `square`: whether a weight's axis has as many slices as its outputs.
- `rank`: of the operand.
- `power_of_two`: whether all scales are powers of two.
- `block_sizes`: sizes of a block that are taken; applies to any other.
- `codes_over`: whether a constant has codes of a larger magnitude.
- `opset_below`: of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxlint_q.analysis.targets.profile import Fact, Target
from onnxlint_q.analysis.targets.uses import Use, count
from onnxlint_q.graph import Model

_HALF_MOST = 65504


@dataclass(frozen=True, slots=True, eq=False)
class Breach:
    """A fact with every place of a file that it applies to.

    Attributes:
        target: whose.
        uses: in data order.
    """

    target: Target
    fact: Fact
    uses: tuple[Use, ...]


def breaches(target: Target, model: Model, uses: Sequence[Use]) -> Iterator[Breach]:
    """The facts of a target that a file runs into."""
    for fact in target.facts:
        found = tuple(use for use in uses if applies(fact, model, use))
        if found:
            yield Breach(target, fact, found)


def applies(fact: Fact, model: Model, use: Use) -> bool:
    """Whether a fact is about an operand."""
    return all(_CONDITIONS[name](model, use, wanted) for name, wanted in fact.when.items())


def held(fact: Fact, model: Model, use: Use) -> str:
    """What an operand has that the target does not take, in words: `8 zero points`, `zero point 128`."""
    asked = set(fact.when)
    if "block_sizes" in asked:
        return f"blocks of {use.pair.block_size}"
    if fact.when.get("zero_points") in {"several", "differ", "nonzero", "over-65504"}:
        values = use.zero_points(model)
        if values is not None and values.size == 1:
            return f"{_type_name(use.pair.elem_type)} codes and zero point {values.item()}"
        return f"{count(model, use.pair.zero_point)} zero points"
    if asked & {"scales", "axis", "square"}:
        return f"{use.scales(model)} along axis {use.axis}"
    return f"{_type_name(use.pair.elem_type) or 'unknown'} codes"


def _type_name(elem_type: int) -> str:
    return str(onnx.TensorProto.DataType.Name(elem_type)).lower() if elem_type else ""


def _scales(model: Model, use: Use, wanted: Any) -> bool:
    several = use.scales(model) > 1
    held = "blocks" if several and use.pair.block_size else "several" if several else "one"
    return bool(held == wanted)


def _zero_points(model: Model, use: Use, wanted: Any) -> bool:
    if wanted in {"omitted", "given"}:
        return bool(use.pair.zero_point) is (wanted == "given")
    if wanted == "several":
        return count(model, use.pair.zero_point) > 1
    values = use.zero_points(model)
    if values is None:
        return False
    match wanted:
        case "differ":
            return bool(np.any(values != values.flat[0])) if values.size else False
        case "zero":
            return not np.any(values != 0)
        case "nonzero":
            return bool(np.any(values != 0))
        case "over-65504":
            return bool(np.any(values.astype(np.int64) > _HALF_MOST))
    raise ValueError(f"zero_points = {wanted!r}")


def _axis(model: Model, use: Use, wanted: Any) -> bool:
    if use.axis is None or use.pair.block_size:
        return False
    if wanted == "inputs":
        return use.channel_axis is not None and use.axis != use.channel_axis
    return bool(use.axis != wanted)


def _square(model: Model, use: Use, wanted: Any) -> bool:
    shape = model.shape(use.pair.codes)
    if use.channel_axis is None or shape is None or use.channel_axis >= len(shape):
        return False
    return (shape[use.channel_axis] == use.scales(model)) is wanted


def _rank(model: Model, use: Use, wanted: Any) -> bool:
    shape = model.shape(use.pair.codes) or model.shape(use.pair.tensor)
    return shape is not None and len(shape) in _listed(wanted)


def _power_of_two(model: Model, use: Use, wanted: Any) -> bool:
    scale = use.pair.read_scale(model)
    if scale is None or not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        return False
    mantissas, _ = np.frexp(scale.astype(np.float64))
    return bool(np.all(mantissas == 0.5)) is wanted


def _codes_over(model: Model, use: Use, wanted: Any) -> bool:
    codes = model.constant(use.pair.codes) if use.pair.code_range is not None else None
    return codes is not None and bool(np.any(np.abs(codes.astype(np.int32)) > wanted))


def _has_type(pair: Any, wanted: Any) -> bool:
    return pair is not None and _type_name(pair.elem_type) in _listed(wanted)


def _listed(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


_CONDITIONS: Mapping[str, Callable[[Model, Use, Any], bool]] = {
    "operators": lambda _, use, wanted: use.node.op_type in wanted,
    "domain": lambda _, use, wanted: use.node.domain == wanted,
    "coded": lambda _, use, wanted: use.coded == wanted,
    "operand": lambda _, use, wanted: use.operand in _listed(wanted),
    "types": lambda _, use, wanted: _has_type(use.pair, wanted),
    "beside": lambda _, use, wanted: _has_type(use.beside, wanted),
    "result_types": lambda _, use, wanted: _has_type(use.result, wanted),
    "result": lambda _, use, wanted: (use.result is not None) == (wanted == "quantised"),
    "scales": _scales,
    "zero_points": _zero_points,
    "axis": _axis,
    "square": _square,
    "rank": _rank,
    "power_of_two": _power_of_two,
    "block_sizes": lambda _, use, wanted: use.pair.block_size > 0 and use.pair.block_size not in wanted,
    "opset_below": lambda model, _, wanted: model.opset < wanted,
    "codes_over": _codes_over,
}
CONDITIONS = frozenset(_CONDITIONS)
"""What a fact may ask about."""
