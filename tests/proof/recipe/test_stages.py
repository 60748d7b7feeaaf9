"""What a search tries after what."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import (
    INT4_BLOCKS,
    INT8_DYNAMIC,
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    LAYERS_ONLY,
    Scheme,
)
from onnxlint_q.proof.probing.plan import multiplications
from onnxlint_q.proof.recipe.stages import Stage, has_few_convolutions, stages

WHOLE, LAYERS = (INT8_PER_TENSOR, INT8_PER_CHANNEL), tuple(LAYERS_ONLY.values())


def networks(*schemes: Scheme, number: int = 1) -> dict[Scheme, int]:
    return dict.fromkeys(schemes, number)


def test_layers_only_follow_the_whole_on_the_same_network() -> None:
    found = stages(networks(*WHOLE, *LAYERS, number=2), cheap_dynamic=True)
    assert found == (Stage(0, WHOLE), Stage(0, LAYERS), Stage(1, WHOLE), Stage(1, LAYERS))


def test_scales_of_each_run_come_first_where_they_cost_nothing() -> None:
    given = {**networks(*WHOLE, number=2), **networks(INT8_DYNAMIC, *LAYERS)}
    assert stages(given, cheap_dynamic=True) == (
        Stage(0, (*WHOLE, INT8_DYNAMIC)),
        Stage(0, LAYERS),
        Stage(1, WHOLE),
    )
    assert stages(given, cheap_dynamic=False) == (
        Stage(0, WHOLE),
        Stage(0, LAYERS),
        Stage(1, WHOLE),
        Stage(0, (INT8_DYNAMIC,)),
    )


@pytest.mark.parametrize("scheme", [INT8_DYNAMIC, INT4_BLOCKS, *LAYERS])
def test_a_scheme_that_is_asked_for_alone_is_tried_once(scheme: Scheme) -> None:
    for cheap in (True, False):
        assert stages(networks(scheme), cheap_dynamic=cheap) == (Stage(0, (scheme,)),)


@pytest.mark.parametrize(("width", "few"), [(64, True), (2, False)])
def test_convolutions_are_few_by_what_they_multiply(width: int, few: bool) -> None:
    text = "g (float[1, 2, 4] x) => (float[N, M, K] y) { a = Conv(x, k)\n b = MatMul(a, w)\n y = MatMul(b, v) }"
    arrays = {
        "k": np.ones((2, 2, 1), np.float32),
        "w": np.ones((4, width), np.float32),
        "v": np.ones((width, 4), np.float32),
    }
    measured = measure(as_model(onnx_text(text, **arrays)))
    assert has_few_convolutions(measured, multiplications(measured, {"x": (1, 2, 4)})) is few
