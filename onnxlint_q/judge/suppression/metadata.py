"""What a model says of itself: `pkg.onnxlint_q.ignore` in the metadata of the model or of a node.

One suppression a line, `QW001, outlier-gamma: why they do not count`. Tools that rewrite a graph may lose the metadata
of nodes; the configuration and a baseline stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from onnxlint_q.finding import Suppressor
from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.build import notes_in
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.suppression.entry import Entry, Spot

KEY = "ignore"
_MOST, _MOST_LINES = 1000, 100
_LONGEST = 2000
"""Characters of a line, or of a name; the model is untrusted."""


def entries_of(model: Model) -> tuple[Entry, ...]:
    """The suppressions in the metadata of `model`, at most 1,000; the reason of one that has none is empty."""
    return tuple(islice(_entries(model), _MOST))


def _entries(model: Model) -> Iterator[Entry]:
    yield from _parsed(notes_in(model.proto.metadata_props).get(KEY, ""), "the model's metadata")
    for node in model.nodes:
        if KEY in node.notes:
            outputs = frozenset(local_name(output, node.graph) for output in node.outputs if output)
            spot = Spot(node.graph, node.name, node.qualified_type, outputs)
            yield from _parsed(node.notes[KEY], f"the metadata of {node.label[:_LONGEST]!r}", spot)


def _parsed(text: str, where: str, spot: Spot | None = None) -> Iterator[Entry]:
    for line in text.splitlines()[:_MOST_LINES]:
        named, _, reason = line[:_LONGEST].partition(":")
        rules = tuple(word.strip() for word in named.split(",") if word.strip())
        if rules or reason.strip():
            yield Entry(rules, reason.strip(), Suppressor.MODEL, where, spot=spot)
