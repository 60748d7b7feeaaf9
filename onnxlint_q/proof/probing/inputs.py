"""Synthetic inputs for a network."""

from __future__ import annotations

from collections.abc import Mapping

from onnxlint_q.analysis.inputs.contents import Kind, find_contents
from onnxlint_q.execute.data.made_up.unmasking import unmasked
from onnxlint_q.execute.data.source import Array, Sample
from onnxlint_q.execute.data.sources import RandomSource
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.forecast.inputs.prior import input_scale


def made_up(bench: Workbench) -> SyntheticSource:
    """Synthetic inputs of a network: what each holds, images at the scale that its first layer expects."""
    model = bench.measured.model
    found = find_contents(model)
    if any(content.kind is Kind.MASK for content in found.values()):
        found = unmasked(model, found, next(RandomSource().samples(model.inputs)), bench.limits)
    advance = None
    if any(content.output for content in found.values()):
        session, names = Session(as_stored(model), limits=bench.limits), [value.name for value in model.outputs]

        def advance(sample: Sample) -> Mapping[str, Array]:
            return dict(zip(names, session.run(sample), strict=True))

    scale = input_scale(model, [layer.folded for layer in bench.measured.layers])
    return SyntheticSource(Contents(found, scale, advance), limits=bench.limits)
