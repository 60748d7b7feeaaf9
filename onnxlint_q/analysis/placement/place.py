"""A tensor that gets a scale."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxlint_q.graph import Node


@dataclass(frozen=True, slots=True)
class Placement:
    """One tensor that gets a scale.

    Attributes:
        tensor: its key, in the folded model.
        like: key of the tensor whose scale it uses; itself unless the quantiser makes it share one.
        constant: an operand that does not depend on the inputs.
        moved: it holds values of `like`, rearranged, so that rounding it again changes nothing.
        asked: nodes that ask for the scale; while one of them is quantised, the tensor has one.
        given: nodes that give it one only because another tensor has one.
        bounds: the range that its scale is made for whatever calibration sees, lowest and highest; None for most.
        weight: it has the format of weights.
    """

    tensor: str
    like: str
    constant: bool = False
    moved: bool = False
    asked: tuple[Node, ...] = field(default=(), compare=False, repr=False)
    given: tuple[Node, ...] = field(default=(), compare=False, repr=False)
    bounds: tuple[float, float] | None = field(default=None, compare=False)
    weight: bool = field(default=False, compare=False)
