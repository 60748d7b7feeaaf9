"""Which samples tell anything of the outputs: a photo without text says nothing of a network that looks for text."""

from __future__ import annotations

from collections.abc import Iterator

from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.output_error import OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench


def telling(bench: Workbench, samples: Samples) -> tuple[Samples, int]:
    """Those samples that exercise the outputs of a float network by themselves, and how many; all where none does.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the network.
        DataError: a sample cannot be read.
    """
    session = Session(bench.float_model, limits=bench.limits)
    references = References(bench.measured.model, bench.outputs, bench.limits)
    known: list[bool] = []
    for sample in samples():
        values, sums = session.run(sample), OutputErrorAccumulator(bench.alike)
        sums.add(references.of(sample, values), values)
        known.append(sums.result().has_signal)
    if not any(known):
        return samples, len(known)

    def chosen() -> Iterator[Sample]:
        return (sample for sample, tells in zip(samples(), known, strict=True) if tells)

    return chosen, sum(known)
