"""Initializers that nothing reads.

Exporters and optimisers leave them behind: the head of another task, a weight whose folded copy is what the layer
reads. They compute nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Location,
    Rule,
    Severity,
    Silence,
    option,
    whole_model,
)


def _model(left: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
head (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] weight = {{1, 2, 3, 4}}{left}> {{
  [fc] y = MatMul(x, weight)
}}
"""


@dataclass(frozen=True)
class UnreadInitializer(Rule):
    """No node reads an initializer.

    ## What it does
    Looks for initializers of the main graph that no node reads and that are no output. Those that are inputs as well
    are left alone: a caller may feed them.

    ## Why it breaks INT8
    It does not. It takes room that the quantised file keeps, and tools that hand weights over as values in memory
    fail on it.

    ## What to do
    Leave it out. If a node was to read it, export the model again.

    ## Sources
    onnxruntime 1.32.0, SessionOptions.add_external_initializers (fails on a value that no node reads).
    """

    code: ClassVar[str] = "QG007"
    name: ClassVar[str] = "unread-initializer"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("unread-initializers",)

    least_values: int = option(
        64,
        doc="values that all of them together hold at least",
        source="fewer are left-over shapes and axes of a graph that was simplified",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model(""), why="The layer reads its weight."),
        Example(_model(", int64[2] axes = {1, 2}"), why="Two values are not worth a word."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model(f", float[8, 8] old = {{{', '.join('1' * 64)}}}"),
            flags=("old",),
            why="The weight `old` is that of a layer that is gone.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the largest of them."""
        model = facts.model
        unread = {
            tensor.name: math.prod(tensor.dims)
            for tensor in model.proto.graph.initializer
            if not model.consumers(tensor.name)
            and tensor.name not in model.output_names
            and tensor.name not in model.replaceable
        }
        if not unread:
            yield Silence(whole_model(facts), "each initializer is read, or a caller may feed it")
            return
        largest, total = max(unread, key=unread.__getitem__), sum(unread.values())
        place = Location(output=largest)
        if total < self.least_values:
            yield Silence(place, f"what nothing reads holds {total} values, fewer than {self.least_values}")
            return
        yield self.finding(
            place,
            f"no node reads this initializer of {unread[largest]} values"
            if len(unread) == 1
            else f"no node reads {len(unread)} initializers of {total} values, this one among them",
            remedy="Leave out what nothing reads; if a node was to read it, export the model again.",
            metrics={"initializers": len(unread), "values": total},
            rewrites=None if facts.is_float else (),
        )
