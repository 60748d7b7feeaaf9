"""Ways to damage a model, each small and each like something that exporters, tools or strangers do.

A mutation changes the message in place and says what it did, in words that go into a report; an empty text means that
it found nothing to change. All choices come from the generator that it is given, so a mutant can be made again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import helper, numpy_helper

Mutation = Callable[[onnx.ModelProto, Random], str]

WHOLE = (0, 1, -1, 2, 3, 7, 64, 127, 255, 1 << 16, 2**31 - 1, 2**31, -(2**31), 1 << 40, 2**63 - 1, -(2**63))
REAL = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e-8, 65504.0, 65536.0, 3e38, math.inf, -math.inf, math.nan)
TEXTS = ("", "x", "a" * 300, "\x1b[31mred", "<script>alert(1)</script>", "a\nb", "../out", "\u202e", "|", "%s{0}")
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "nobody.knows")
LOCATIONS = ("", "..", "../weights.bin", "/dev/zero", ".", "model.onnx", "a\x00b", "~/x", "w" * 300)
# Fields of this many bytes are values; inside them a byte is changed, and none is looked at one by one.
_MOST_LENGTH = 1 << 16


def field_set(model: onnx.ModelProto, random: Random) -> str:
    """Any number, text or bytes of the file becomes another."""
    held = list(_fields(model))
    message, field, index = random.choice(held)
    value = _other(field, message, index, model, random)
    name = f"{message.DESCRIPTOR.name}.{field.name}"
    try:
        if index is None:
            setattr(message, field.name, value)
        else:
            getattr(message, field.name)[index] = value
    except (TypeError, ValueError, OverflowError):
        return ""
    return f"{name} = {str(value)[:40]!r}"


def field_cleared(model: onnx.ModelProto, random: Random) -> str:
    """Any field of the file is left out."""
    message = random.choice(list(_messages(model)))
    fields = [field for field, _ in message.ListFields()]
    if not fields:
        return ""
    field = random.choice(fields)
    message.ClearField(field.name)
    return f"{message.DESCRIPTOR.name}.{field.name} cleared"


def entry_moved(model: onnx.ModelProto, random: Random) -> str:
    """An entry of a list is left out, there twice, or in another place."""
    lists = [
        (message, field)
        for message in _messages(model)
        for field, held in message.ListFields()
        if _is_list(field) and len(held) <= _MOST_LENGTH
    ]
    if not lists:
        return ""
    message, field = random.choice(lists)
    entries = list(getattr(message, field.name))
    index, what = random.randrange(len(entries)), random.choice(("dropped", "doubled", "moved"))
    entry = entries[index]
    if what != "doubled":
        del entries[index]
    if what != "dropped":
        entries.insert(random.randrange(len(entries) + 1), entry)
    copies = [_copy(one) for one in entries]
    message.ClearField(field.name)
    getattr(message, field.name).extend(copies)
    return f"{message.DESCRIPTOR.name}.{field.name}[{index}] {what}"


def message_copied(model: onnx.ModelProto, random: Random) -> str:
    """A part of the file stands in place of another of its kind."""
    by_kind: dict[str, list[Message]] = {}
    for message in _messages(model):
        by_kind.setdefault(message.DESCRIPTOR.name, []).append(message)
    several = [held for name, held in by_kind.items() if len(held) > 1 and name != "GraphProto"]
    if not several:
        return ""
    source, target = random.sample(random.choice(several), 2)
    try:
        target.CopyFrom(_copy(source))
    except ValueError:
        return ""
    return f"a {target.DESCRIPTOR.name} replaced by another"


def rewired(model: onnx.ModelProto, random: Random) -> str:
    """A node reads another tensor, none, or one more."""
    nodes = _nodes(model)
    if not nodes:
        return ""
    node = random.choice(nodes)
    name = random.choice((*_names(model), ""))
    if not node.input or random.random() < 0.15:
        node.input.append(name)
        return f"{node.op_type} reads {name!r} as well"
    index = random.randrange(len(node.input))
    if random.random() < 0.1:
        del node.input[index:]
        return f"{node.op_type} reads {index} inputs"
    node.input[index] = name
    return f"{node.op_type} reads {name!r} at {index}"


def operator_changed(model: onnx.ModelProto, random: Random) -> str:
    """A node becomes another operator of the standard, or one of another domain."""
    nodes = _nodes(model)
    if not nodes:
        return ""
    node = random.choice(nodes)
    before = node.op_type
    if random.random() < 0.8:
        node.domain, node.op_type = random.choice(_operators())
    else:
        node.domain = random.choice(DOMAINS)
    return f"{before} is {node.domain}:{node.op_type}"


def attribute_changed(model: onnx.ModelProto, random: Random) -> str:
    """A node gets an attribute of its operator with an extreme value, or loses one."""
    nodes = _nodes(model)
    if not nodes:
        return ""
    node = random.choice(nodes)
    known = _attributes(node.domain, node.op_type) or ("axis", "axes", "shape")
    name = random.choice(known)
    kept = [_copy(one) for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if random.random() < 0.15:
        return f"{node.op_type}.{name} left out"
    value: Any = random.choice(
        (
            random.choice(WHOLE),
            random.choice(REAL),
            random.choice(TEXTS),
            [random.choice(WHOLE) for _ in range(random.randrange(1, 5))],
            [random.choice(REAL) for _ in range(random.randrange(1, 5))],
            numpy_helper.from_array(np.full(random.choice(((), (1,), (2, 2))), random.choice(REAL), np.float32)),
        )
    )
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.op_type}.{name} = {str(value)[:40]!r}"


def shape_changed(model: onnx.ModelProto, random: Random) -> str:
    """A declared shape or type is another than the values have."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    if values and random.random() < 0.5:
        value = random.choice(values)
        kind = value.type.tensor_type
        if kind.shape.dim and random.random() < 0.7:
            size = random.choice(kind.shape.dim)
            size.dim_value = random.choice(WHOLE)
            return f"{value.name!r} declared with an axis of {size.dim_value}"
        kind.elem_type = random.choice(_element_types())
        return f"{value.name!r} declared of type {kind.elem_type}"
    if not graph.initializer:
        return ""
    tensor = random.choice(graph.initializer)
    if random.random() < 0.3:
        tensor.data_type = random.choice(_element_types())
        return f"{tensor.name!r} stored as type {tensor.data_type}"
    if tensor.dims and random.random() < 0.6:
        index = random.randrange(len(tensor.dims))
        tensor.dims[index] = random.choice(WHOLE)
        return f"{tensor.name!r} has an axis of {tensor.dims[index]}"
    dims = list(tensor.dims)
    random.shuffle(dims)
    tensor.dims[:] = dims[: random.randrange(len(dims) + 1)] if random.random() < 0.3 else [*dims, 1]
    return f"{tensor.name!r} has the shape {list(tensor.dims)}"


def values_changed(model: onnx.ModelProto, random: Random) -> str:
    """A stored tensor of another content: one extreme value, a channel or all of it."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.INT64)
    stored = [
        tensor for tensor in model.graph.initializer if tensor.data_type in floats and len(tensor.raw_data) < 1 << 20
    ]
    if not stored:
        return ""
    tensor = random.choice(stored)
    try:
        values = np.array(numpy_helper.to_array(tensor))
    except Exception:  # an earlier mutation has made it unreadable
        return ""
    if not values.size:
        return ""
    wanted = random.choice(REAL) if values.dtype.kind == "f" else random.choice(WHOLE)
    with np.errstate(all="ignore"):
        number = np.asarray(wanted).astype(values.dtype)
    place = random.choice(("one", "channel", "all"))
    if place == "one":
        values.reshape(-1)[random.randrange(values.size)] = number
    elif place == "channel" and values.ndim:
        values[random.randrange(values.shape[0])] = number
    else:
        values[...] = number
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return f"{place} of {tensor.name!r} is {number}"


def quantised_edge(model: onnx.ModelProto, random: Random) -> str:
    """What a node reads goes through a pair of QuantizeLinear and DequantizeLinear, rarely with sound parameters."""
    nodes = [(number, node) for number, node in enumerate(model.graph.node) if node.input]
    if not nodes:
        return ""
    number, node = random.choice(nodes)
    index = random.randrange(len(node.input))
    stem = f"q{random.randrange(1 << 30)}"
    loads = random.random() < 0.7  # as far as types and shapes go
    shape = () if loads else random.choice(((1,), (2,), (4,), (8,), (0,), (2, 2)))
    precision = np.float32 if loads else random.choice((np.float32, np.float16))
    with np.errstate(all="ignore"):
        scale = np.full(shape, random.choice((*REAL, 0.01, 0.1, 1e3)), precision)
    kind = random.choice((np.uint8, np.int8) if loads else (np.uint8, np.int8, np.int16, np.uint16, np.int32))
    zero = np.zeros(shape if loads else random.choice((shape, (), (3,))), kind)
    stored = ((scale, f"{stem}s"), (zero, f"{stem}z"))
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for values, name in stored)
    made = [
        helper.make_node("QuantizeLinear", [node.input[index], f"{stem}s", f"{stem}z"], [f"{stem}q"]),
        helper.make_node("DequantizeLinear", [f"{stem}q", f"{stem}s", f"{stem}z"], [f"{stem}d"]),
    ]
    for one in made:
        if not loads and random.random() < 0.6:
            one.attribute.append(helper.make_attribute("axis", random.choice((0, 1, -1, *WHOLE))))
        if not loads and random.random() < 0.2:
            one.attribute.append(helper.make_attribute("block_size", random.choice((2, 16, *WHOLE))))
    node.input[index] = f"{stem}d"
    nodes_after = [_copy(one) for one in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend((*nodes_after[:number], *made, *nodes_after[number:]))
    return f"{node.op_type} reads {index} through {kind.__name__} codes, scale {scale.tolist()}"


def stored_elsewhere(model: onnx.ModelProto, random: Random) -> str:
    """A tensor, wherever it is, says that its values lie in another file."""
    tensors = [message for message in _messages(model) if isinstance(message, onnx.TensorProto)]
    if not tensors:
        return ""
    tensor = random.choice(tensors)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location = random.choice(LOCATIONS)
    said = {"location": location, "offset": str(random.choice(WHOLE)), "length": str(random.choice(WHOLE))}
    for key in random.sample(sorted(said), random.randrange(1, 4)):
        tensor.external_data.add(key=key, value=said[key])
    return f"{tensor.name!r} lies in {location[:20]!r}"


MUTATIONS: Mapping[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        field_set,
        field_cleared,
        entry_moved,
        message_copied,
        rewired,
        operator_changed,
        attribute_changed,
        shape_changed,
        values_changed,
        quantised_edge,
        stored_elsewhere,
    )
}

RUNNABLE = (values_changed.__name__, attribute_changed.__name__, rewired.__name__)
"""Those after which a model often still runs."""
EDGES = (quantised_edge.__name__,)
"""Codes where there were none."""
QUANTISED = (*RUNNABLE, *EDGES, *EDGES)


def damaged(data: bytes, random: Random) -> tuple[bytes, str]:
    """The bytes of a file with a few of them changed, left out or put in."""
    if not data:
        return data, ""
    place, length = random.randrange(len(data)), min(random.choice((1, 1, 2, 8, 64)), len(data))
    what = random.choice(("changed", "cut", "put in", "truncated"))
    other = random.randbytes(length)
    match what:
        case "changed":
            return data[:place] + other + data[place + length :], f"{length} bytes changed at {place}"
        case "cut":
            return data[:place] + data[place + length :], f"{length} bytes cut at {place}"
        case "put in":
            return data[:place] + other + data[place:], f"{length} bytes put in at {place}"
    return data[:place], f"truncated at {place}"


def _messages(message: Message) -> Iterator[Message]:
    """The message and all in it."""
    yield message
    for field, held in message.ListFields():
        if field.message_type is not None:
            for one in held if _is_list(field) else (held,):
                yield from _messages(one)


def _fields(model: Message) -> Iterator[tuple[Message, FieldDescriptor, int | None]]:
    """Every number, text and bytes that is set: its message, its field, and where in a list it is."""
    for message in _messages(model):
        for field, held in message.ListFields():
            if field.message_type is not None:
                continue
            if not _is_list(field):
                yield message, field, None
            elif held:
                yield message, field, len(held) // 2 if len(held) > 8 else len(held) - 1


def _other(
    field: FieldDescriptor, message: Message, index: int | None, model: onnx.ModelProto, random: Random
) -> int | float | str | bytes | bool:
    """Another value for a field."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return random.choice(REAL)
        case FieldDescriptor.CPPTYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return random.randrange(30)
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_STRING:
            return random.choice((*TEXTS, *_names(model)))
        case FieldDescriptor.CPPTYPE_STRING:
            held = getattr(message, field.name)
            return damaged(held if index is None else held[index], random)[0]
    return random.choice(WHOLE)


def _is_list(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _copy(held: Any) -> Any:
    if not isinstance(held, Message):
        return held
    made = type(held)()
    made.CopyFrom(held)
    return made


def _nodes(model: onnx.ModelProto) -> Sequence[onnx.NodeProto]:
    return [message for message in _messages(model) if isinstance(message, onnx.NodeProto)]


def _names(model: onnx.ModelProto) -> Sequence[str]:
    """Names of tensors of the main graph, each once."""
    graph = model.graph
    named = [one.name for group in (graph.input, graph.output, graph.initializer) for one in group]
    return list(dict.fromkeys((*named, *(name for node in graph.node for name in node.output))))


@cache
def _operators() -> Sequence[tuple[str, str]]:
    return sorted({(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()})


@cache
def _attributes(domain: str, op_type: str) -> Sequence[str]:
    try:
        return sorted(onnx.defs.get_schema(op_type, domain=domain).attributes)
    except onnx.defs.SchemaError:
        return ()


@cache
def _element_types() -> Sequence[int]:
    return sorted(onnx.TensorProto.DataType.values())
