"""Run variants beside the float model on the same samples and measure the error at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator, Reference

Samples = Callable[[], Iterator[Mapping[str, npt.NDArray[Any]]]]
# Sessions that are open at once together hold at most this much of weights, but at least one variant.
_OPEN_BYTES = 512 << 20
_OPEN_SESSIONS = 12


def measure_variants(
    reference: Executable,
    variants: Mapping[str, Callable[[], Executable]],
    samples: Samples,
    progress: Progress = silent,
) -> dict[str, OutputError]:
    """Error of each variant against `reference`, by the variant's key.

    `samples` starts a fresh pass over the same samples each time it is called. A variant is built when its turn
    comes and dropped after it.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read.
    """
    names = list(variants)
    size = max(1, min(_OPEN_SESSIONS, _OPEN_BYTES // max(reference.weight_bytes, 1)))
    rounds = [names[start : start + size] for start in range(0, len(names), size)]
    errors: dict[str, OutputError] = {}
    exact = Session(reference)
    for done, chosen in enumerate(rounds):
        progress("testing claims", done, len(rounds))
        errors |= _one_round(exact, chosen, variants, samples)
    progress("testing claims", len(rounds), len(rounds))
    return errors


def _one_round(
    exact: Session, names: Sequence[str], variants: Mapping[str, Callable[[], Executable]], samples: Samples
) -> dict[str, OutputError]:
    sessions = {name: Session(variants[name]()) for name in names}
    sums = {name: OutputErrorAccumulator() for name in names}
    for sample in samples():
        outputs = Reference(exact.run(sample))
        for name, session in sessions.items():
            sums[name].add(outputs, session.run(sample))
    return {name: accumulator.result() for name, accumulator in sums.items()}
