"""Where a rewrite applies, and where it does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate(ABC):
    """A place where a rewrite applies; each rewrite adds its own arguments.

    Attributes:
        tensor: key of what it changes: the result of a layer, or a constant.
    """

    tensor: str

    @property
    def tensors(self) -> tuple[str, ...]:
        """Keys of all that changes."""
        return (self.tensor,)

    @property
    @abstractmethod
    def change(self) -> str:
        """What becomes other there, for the user: half a sentence that may follow the tensor's name and a colon."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place where a rewrite was looked for and does not apply.

    Attributes:
        tensor: key of the result of the layer, or of the constant.
        reason: why, half a sentence for the user.
    """

    tensor: str
    reason: str
