"""What a mask does to the forecast, however it comes among the scores."""

from __future__ import annotations

import pytest
from mask_cases import WAYS, network
from onnx_cases import as_model

from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.rewrite.mask_values import apply

FINE = SCHEMES["int16-activations"]


@pytest.mark.parametrize("way", WAYS)
def test_the_forecast_with_a_smaller_mask_is_that_of_the_file_with_it(way: str) -> None:
    """Whether inputs, constants or something unknown decides on the mask."""
    steps, constants = WAYS[way]
    facts = facts_of(as_model(network(steps, **constants)), (INT8_PER_TENSOR, FINE))
    assert facts.unmasked is not None
    made = facts_of(apply(facts.model, facts.unmasked.candidates.values()), facts.schemes)
    for scheme in facts.schemes:
        asked, told = facts.unmasked.forecasts[scheme.name], made.forecasts[scheme.name]
        assert asked.output_sqnr_db == pytest.approx(told.output_sqnr_db, abs=0.1)
    before, after = facts.forecasts[INT8_PER_TENSOR.name], facts.unmasked.forecasts[INT8_PER_TENSOR.name]
    assert before.output_sqnr_db is not None and after.output_sqnr_db is not None
    assert before.output_sqnr_db < 5 and after.output_sqnr_db > 14


def test_a_mask_that_overflows_leaves_nothing_at_16_bits() -> None:
    """Less than scores that are all rounded to zero: its lowest code is minus infinity, and times zero no number."""
    lost, zeros = (
        facts_of(as_model(network(steps, **constants)), (FINE,)).forecasts[FINE.name].output_sqnr_db
        for steps, constants in (WAYS["computed"], WAYS["negated"])
    )
    assert lost is not None and zeros is not None and lost < 0 < zeros
