"""Two measured files compared: paired by what they compute, run on the same samples, told value by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.compared import JUMP_DB, Compared
from onnxlint_q.analysis.pairing.match import Pairing, pair
from onnxlint_q.analysis.pairing.skeleton import Skeleton, skeleton
from onnxlint_q.errors import ModelError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.finding import CONFIRM_BELOW_DB
from onnxlint_q.proof.comparison.compared_rows import compared_rows
from onnxlint_q.proof.comparison.run_both import PairErrors, check_loads, run_both


@dataclass(frozen=True, slots=True, eq=False)
class PairResult:
    """What comparing two files gave.

    Attributes:
        errors: of the outputs and of every value.
        compared: what rules and reports read.
    """

    errors: PairErrors
    compared: Compared


def pair_files(reference: Measured, quantized: Measured) -> Pairing:
    """Which value of one file is which of the other.

    Raises:
        ModelError: the files do not hold one network; or, which is said instead, ONNX Runtime cannot load one of them.
    """
    try:
        return pair(_skeleton(reference), _skeleton(quantized))
    except ModelError:
        # A file that nothing can run is no stranger to the other: its operators are.
        for measured in (reference, quantized):
            check_loads(measured.model)
        raise


def compare_files(
    pairing: Pairing,
    reference: Measured,
    quantized: Measured,
    source: Source,
    count: int = 32,
    labels: Sequence[int] | None = None,
    progress: Progress = silent,
    jump_db: float = JUMP_DB,
    bad_db: float = CONFIRM_BELOW_DB,
    limits: Limits = DEFAULT_LIMITS,
) -> PairResult:
    """Run `count` samples through both files and compare what they hold.

    Args:
        pairing: of the two files.
        reference: the float one.
        quantized: the other.
        source: where samples come from.
        count: how many to take, at most.
        labels: class of each sample, where it is known.
        progress: told after each sample.
        jump_db: an operator in which SQNR falls by more dB is run alone,
        bad_db: where it falls below so many dB.
        limits: of the runs.

    Raises:
        ModelError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read or does not fit, or has no label although labels were given.
    """
    errors = run_both(pairing, source, count, labels, progress, limits)
    return PairResult(errors, compared_rows(pairing, errors, reference, quantized, source, jump_db, bad_db))


def _skeleton(measured: Measured) -> Skeleton:
    return skeleton(measured.model, [layer.folded for layer in measured.layers], measured.quantized)
