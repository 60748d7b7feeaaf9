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
from onnxlint_q.graph.operators.table import MICROSOFT, lookup, operators

__all__ = [
    "MICROSOFT",
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
