"""Run variants beside the float model on the same samples and measure the error at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy.typing as npt

from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.workbench import Workbench

Samples = Callable[[], Iterator[Mapping[str, npt.NDArray[Any]]]]
Key = TypeVar("Key", bound=Hashable)
Watch = Callable[[Hashable, int, Sequence[npt.NDArray[Any]], Sequence[npt.NDArray[Any]]], None]
"""Is told of each run: the variant, the number of the sample, outputs of the float model, outputs of the variant."""


def run_variants(
    bench: Workbench,
    variants: Mapping[Key, Callable[[], Executable]],
    samples: Samples,
    progress: Progress = silent,
    allowance: Allowance | None = None,
    watch: Watch | None = None,
) -> dict[Key, OutputError]:
    """Error of each variant of a network against its float model, by the variant's key.

    `samples` starts a fresh pass over the same samples each time it is called. A variant is built when its turn
    comes and dropped after it. When the time is over, variants that were not reached are left out. What is told of
    progress are runs, where the allowance knows how many samples there are; else variants.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read.
    """
    allowance = allowance or Allowance()
    reference, limits = bench.float_model, bench.limits
    keys = list(variants)
    size = max(1, min(limits.sessions, limits.session_bytes // max(reference.weight_bytes, 1)))
    rounds = [keys[start : start + size] for start in range(0, len(keys), size)]
    errors: dict[Key, OutputError] = {}
    exact = Session(reference, limits=limits) if keys else None
    each = allowance.samples or 1
    for done, chosen in enumerate(rounds):
        tick = partial(_tell, progress, done * size * each, len(chosen) * each, len(keys) * each)
        tick(0.0)
        if exact is not None and allowance.left > 0:
            errors |= _one_round(bench, exact, chosen, variants, samples, allowance, len(rounds) - done, watch, tick)
    progress("", len(keys) * each, len(keys) * each)
    return errors


def _tell(progress: Progress, done: int, now: int, total: int, fraction: float) -> None:
    """That so much of what runs now is done."""
    progress("", done + int(fraction * now), total)


def _one_round(
    bench: Workbench,
    exact: Session,
    keys: Sequence[Key],
    variants: Mapping[Key, Callable[[], Executable]],
    samples: Samples,
    allowance: Allowance,
    rounds: int,
    watch: Watch | None,
    tick: Callable[[float], None],
) -> dict[Key, OutputError]:
    share = allowance.share(rounds)
    sessions = {key: Session(variants[key](), limits=bench.limits) for key in keys}
    sums = {key: OutputErrorAccumulator(bench.alike) for key in keys}
    references = References(bench.measured.model, bench.outputs, bench.limits)
    share.begin()
    for done, sample in enumerate(samples(), start=1):
        values = exact.run(sample)
        outputs = references.of(sample, values)
        for key, session in sessions.items():
            if not allowance.left:
                break
            found = session.run(sample)
            sums[key].add(outputs, found)
            if watch is not None:
                watch(key, done - 1, values, found)
        tick(share.fraction(done))
        if not share.fits(done):
            break
    return {key: accumulator.result() for key, accumulator in sums.items() if accumulator.samples}
