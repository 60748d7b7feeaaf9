"""Nodes and tensor types: the values a Model is made of."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxlint_q.graph.operators import Operator, lookup

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
NOTES = "pkg.onnxlint_q."
"""What keys of metadata that are meant for this tool begin with."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type (a TensorProto.DataType, 0 if unknown) and shape (None per unknown dimension or unknown rank)."""

    elem_type: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the model.

    Attributes:
        name, type: as declared.
        taken: of an input, the shape that it is taken to have wherever one is needed, without an open axis; None where
            nothing but a batch is open.
        fixed: whether the graph runs with nothing but such a shape.
        batched: whether samples lie along the first axis, if that is open.
    """

    name: str
    type: TensorType
    taken: tuple[int, ...] | None = None
    fixed: bool = False
    batched: bool = True

    @property
    def shape_text(self) -> str:
        """The shape for a message: `[1, 3, ?, ?]`."""
        shape = self.type.shape
        return "unknown" if shape is None else f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator. Two nodes are the same only if they are the same object.

    Attributes:
        graph: path of the graph it stands in, `main` for the main graph.
        name: as in the file: may be empty or repeated.
        inputs, outputs: tensor keys; an omitted optional input is the empty string.
        captured: outer tensors that its subgraphs read.
        attributes: values as onnx.helper gives them; subgraphs are left out, they are in `subgraphs`.
        subgraphs: attribute name to graph path.
        returns: attribute name to the tensors that the subgraph returns.
        takes: attribute name to the tensors that the subgraph is given.
        order: position in the model's data order.
        notes: what the file says to this tool about the node: metadata under `pkg.onnxlint_q.`, by the rest of the key.
        operator: its row in the operator table.
        output: key of the first output that is present.
    """

    graph: str
    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    subgraphs: Mapping[str, str] = field(default_factory=dict, repr=False)
    returns: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    takes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    order: int = 0
    notes: Mapping[str, str] = field(default_factory=dict, repr=False)
    operator: Operator = field(init=False, repr=False)
    output: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """What is asked for most."""
        object.__setattr__(self, "operator", lookup(self.op_type, self.domain))
        object.__setattr__(self, "output", next(filter(None, self.outputs), ""))

    @property
    def is_standard(self) -> bool:
        """Whether the operator is of the default ONNX domain."""
        return self.domain in STANDARD_DOMAINS

    @property
    def qualified_type(self) -> str:
        """Operator with its domain, where that is not the default one."""
        return self.op_type if self.is_standard else f"{self.domain}:{self.op_type}"

    @property
    def label(self) -> str:
        """What to call it: its name, else its first output."""
        return self.name or self.output

    def input(self, index: int) -> str:
        """Key of an input, the empty string where it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def int(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def float(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default

    def ints(self, name: str) -> tuple[builtins.int, ...]:
        """A list of integers, empty where it is absent or holds anything else."""
        value = self.attributes.get(name, ())
        listed = isinstance(value, (list, tuple)) and all(isinstance(one, builtins.int) for one in value)
        return tuple(value) if listed else ()

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else default
