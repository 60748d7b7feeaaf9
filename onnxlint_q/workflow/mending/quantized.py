"""What `quantize` made of a model: plain values that reports read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.workflow.mending.fixed import Fixed, Verification
from onnxlint_q.workflow.scheme_result import SchemeResult


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One way to quantise the model that was tried.

    Attributes:
        scheme, observer: how, and where ranges came from; the latter is empty where none are calibrated.
        in_float: how many nodes were left in float.
        wide: how many activations had 16 bits.
        shifted: how many layers had their biases shifted.
        rounded: how many layers had weights rounded to other codes than the nearest ones.
        sqnr_db: of the worst output, on the samples that were searched on; None where nothing was lost.
        agreement: of class scores, fraction of the samples with the float model's top-1; else None, and on synthetic
            inputs.
        reached: whether it reached the goal on them.
        finer: fraction of the multiplications that are done in float or in 16 bits.
    """

    scheme: str
    observer: str
    in_float: int
    wide: int
    shifted: int
    sqnr_db: float | None
    agreement: float | None
    reached: bool
    finer: float = 0.0
    rounded: int = 0


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """Wall time of single runs on this machine: median, and what a tenth took less and more than."""

    median: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True, slots=True)
class Weight:
    """What a model takes.

    Attributes:
        bytes: of its files.
        latency: of one sample; None where it was not measured.
    """

    bytes: int
    latency: Milliseconds | None


@dataclass(frozen=True, eq=False)
class Quantized:
    """A model before and after `quantize`.

    Attributes:
        path, sha256, opset: the float model as it was given.
        out: the file that was written.
        recipe_file: where the recipe was written.
        verification: the samples that ranges come from, and those that figures were measured on.
        observer: how ranges come from them; empty where none are calibrated.
        shifted: how many layers had their biases shifted.
        rounded: how many layers had weights rounded to other codes than the nearest ones.
        fixed: what was rewritten first; None where a recipe was replayed.
        plain: the float model quantised by ONNX Runtime's defaults, by scheme, on the same samples.
        result: the verdict on the file that was written.
        top1: how often the float and the quantised model are right; None without labels.
        goal: what had to be reached, in words.
        reached: whether the written file does, on samples that nothing was chosen on.
        why_not: what stands in the way, in words; empty where it was reached.
        attempts: what was tried, in order.
        excluded: names of the nodes that stay in float.
        wide: activations whose codes have 16 bits.
        macs: fraction of the multiplications of all layers, by number format.
        left: by operator, how many layers the quantiser leaves in float whatever is asked for.
        before, after: what the float and the written model take.
        snippet: Python that makes the same file with ONNX Runtime alone.
        notes: what else is to be known, in words.
        seconds: wall time by stage.
    """

    path: str
    sha256: str
    opset: int
    out: str
    recipe_file: str
    verification: Verification
    observer: str
    shifted: int
    fixed: Fixed | None
    plain: tuple[SchemeResult, ...]
    result: SchemeResult
    goal: str
    reached: bool
    why_not: str
    attempts: tuple[AttemptRow, ...]
    excluded: tuple[str, ...]
    wide: tuple[str, ...]
    macs: Mapping[str, float]
    before: Weight
    after: Weight
    snippet: str
    rounded: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    top1: Top1 | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
