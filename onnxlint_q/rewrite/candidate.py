"""Where a rewrite applies, and where it does not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where a rewrite applies; each rewrite adds its own arguments.

    Attributes:
        layer: key of the layer that it changes.
    """

    layer: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place where a rewrite was looked for and does not apply.

    Attributes:
        layer: key of the layer.
        reason: why, half a sentence for the user.
    """

    layer: str
    reason: str
