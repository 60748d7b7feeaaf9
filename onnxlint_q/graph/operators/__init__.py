"""What kind of operator a node is: the words of a row, and the table of all rows."""

from onnxlint_q.graph.operators.description import (
    BatchAxis,
    Channels,
    Codes,
    LayerInputs,
    Operator,
    Product,
    StaticScale,
    Trait,
)
from onnxlint_q.graph.operators.table import MICROSOFT, TRAINERS, lookup, operators

__all__ = [
    "MICROSOFT",
    "TRAINERS",
    "BatchAxis",
    "Channels",
    "Codes",
    "LayerInputs",
    "Operator",
    "Product",
    "StaticScale",
    "Trait",
    "lookup",
    "operators",
]
