"""What the tests of all rewrites do: find, apply, and hold the float outputs against those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx_cases import Array, as_model, run

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.rewriting import Rewrite


def measured(proto: onnx.ModelProto) -> Measured:
    """What is measured of a model under the two plain int8 schemes."""
    return measure(as_model(proto), DEFAULT_SCHEMES)


def found(
    rewrite: Rewrite, proto: onnx.ModelProto, observations: Observations | None = None
) -> tuple[list[Any], list[Refusal]]:
    """The candidates and the refusals; each says what it is."""
    all_found = list(rewrite.find(measured(proto), observations))
    candidates = [one for one in all_found if isinstance(one, Candidate)]
    refusals = [one for one in all_found if isinstance(one, Refusal)]
    assert all(one.change for one in candidates) and all(one.reason for one in refusals)
    return candidates, refusals


def applied(rewrite: Rewrite, proto: onnx.ModelProto, wanted: Sequence[Any]) -> Model:
    """The model with these candidates applied, which the checker takes; the model before stays as it is."""
    before = as_model(proto)
    untouched = before.proto.SerializeToString()
    made = rewrite.apply(before, wanted)
    assert before.proto.SerializeToString() == untouched
    onnx.checker.check_model(made.proto, full_check=True)
    assert [value.name for value in made.inputs] == [value.name for value in before.inputs]
    assert [value.name for value in made.outputs] == [value.name for value in before.outputs]
    return made


def assert_same(proto: onnx.ModelProto, made: Model, feeds: Mapping[str, Array], least_db: float = 110.0) -> None:
    """The float outputs agree to so many decibels."""
    for before, after in zip(run(proto, feeds), run(made.proto, feeds), strict=True):
        noise = np.square(before.astype(np.float64) - after.astype(np.float64)).sum()
        assert noise <= 10 ** (-least_db / 10) * np.square(before.astype(np.float64)).sum()
