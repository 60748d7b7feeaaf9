"""What `fix` did to a model: plain values that reports read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.finding import Finding
from onnxlint_q.workflow.scheme_result import SchemeResult


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a model, and what is said of it.

    Attributes:
        tensor: key of the tensor or constant.
        node, op_type: the operator that makes it; empty for a constant.
        said: what changes there, or why nothing does; half a sentence.
    """

    tensor: str
    node: str
    op_type: str
    said: str


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What became of one rewrite.

    Attributes:
        name: of the rewrite.
        what: what it does, in words.
        safety: `exact`, `data` or `unsafe`.
        places: where the model is changed.
        left_out: where it could be changed, and why it was not.
        refused: where it does not apply, and why.
        float_sqnr_db: of the float outputs against those of the model that was given; None where they are identical,
            or nothing was changed.
        before, after: whole schemes without it and with it; empty where it moves no value.
    """

    name: str
    what: str
    safety: str
    places: tuple[Place, ...] = ()
    left_out: tuple[Place, ...] = ()
    refused: tuple[Place, ...] = ()
    float_sqnr_db: float | None = None
    before: tuple[SchemeResult, ...] = ()
    after: tuple[SchemeResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Withheld:
    """A rewrite that applies and was not asked for.

    Attributes:
        name: of the rewrite.
        places: how many there are.
        option: what asks for it.
    """

    name: str
    places: int
    option: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What the changed model was held against the given one on.

    Attributes:
        source: where the samples come from.
        preprocessing: what was done to them.
        synthetic: they are made up.
        ranges: how many ranges were taken from.
        judged: how many others figures were measured on.
    """

    source: str
    preprocessing: str
    synthetic: bool
    ranges: int
    judged: int


@dataclass(frozen=True, eq=False)
class Fixed:
    """A model before and after `fix`.

    Attributes:
        path: the model as it was given.
        sha256: of that file's bytes.
        opset: of the model as it was given.
        out: the file that was written; empty where none was.
        rewrites: one by one, in the order in which they were tried.
        withheld: those that were not asked for.
        verification: what they were tried on.
        float_sqnr_db: of the float outputs of the changed model; None where they are identical.
        before, after: whole schemes of both models, on the same samples.
        resolved: findings of the given file, without a run, at tensors that have none any more.
        remaining, new: those of the changed file, at tensors that had some and at those that had none.
        notes: what else is to be known, in words.
        seconds: wall time by stage.
    """

    path: str
    sha256: str
    opset: int
    out: str
    rewrites: tuple[RewriteResult, ...]
    withheld: tuple[Withheld, ...]
    verification: Verification
    float_sqnr_db: float | None
    before: tuple[SchemeResult, ...]
    after: tuple[SchemeResult, ...]
    resolved: tuple[Finding, ...] = ()
    remaining: tuple[Finding, ...] = ()
    new: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def applied(self) -> tuple[RewriteResult, ...]:
        """The rewrites that changed something."""
        return tuple(rewrite for rewrite in self.rewrites if rewrite.places)
