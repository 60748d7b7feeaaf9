"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Stage in words, steps done, steps in all, 0 where that is not known.

An empty stage is the one told last. The same may be told again, where time passes and nothing is done.
"""
MODELS = "linting"
"""The stage that counts models; all others are within one of them."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Nobody listens."""
