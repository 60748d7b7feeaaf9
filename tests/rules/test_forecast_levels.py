"""What rules about weights make of the forecast: warning, info or nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from onnxlint_q.analysis.observed.costs import SchemeCosts, TensorCost
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.finding import Severity, Silence, Subject
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts

RULES = {entry.rule.code: entry.rule for entry in load_rules()}
NAME = INT8_PER_TENSOR.name


def forecast_at(facts: Facts, level_db: float | None) -> Facts:
    """The facts as if every layer's weight were forecast to leave `level_db`, or nothing could be forecast."""
    made = facts.forecasts[NAME]
    layers = {key: replace(layer, weight_sqnr_db=level_db) for key, layer in made.layers.items()}
    return replace(facts, forecasts={**facts.forecasts, NAME: replace(made, layers=layers)})


def severities(rule: type[Rule], facts: Facts) -> set[Severity]:
    return {finding.severity for finding in rule().findings(facts)}


def block(width: float, narrow: int, *, depthwise: bool) -> Facts:
    """A convolution of 16 channels, the last `narrow` of which are `width` times as wide as the others."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        weight = random.choice([-1.0, 1.0], size=(16, 1 if depthwise else 16, 3, 3))
        weight *= np.where(np.arange(9) == 4, 1, random.uniform(0.5, 0.9, size=9)).reshape(3, 3)
        weight[16 - narrow :] *= width
        return {"w": weight.astype(np.float32), "mix": random.normal(size=(4, 16, 1, 1)).astype(np.float32)}

    text = f"""
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 16, 8, 8] image) => (float[N, 4, 8, 8] y) {{
  [first] features = Conv <group = {16 if depthwise else 1}, pads = [1, 1, 1, 1]> (image, w)
  positive = Relu(features)
  [second] y = Conv(positive, mix)
}}
"""
    return example_facts(Example(text, weights=make))


@pytest.mark.parametrize("depthwise", [True, False])
def test_the_blocks_are_bad_mediocre_and_good(depthwise: bool) -> None:
    blocks = (block(0.003, 14, depthwise=depthwise), *(block(w, 12, depthwise=depthwise) for w in (0.15, 0.6)))
    bad, mediocre, good = (facts.layer_by_output["features"].weight.average_precision for facts in blocks)
    assert bad < 0.25 < mediocre < 0.5 < good


@pytest.mark.parametrize(
    ("code", "level_db", "expected"),
    [
        ("QW001", 14.0, {Severity.WARNING}),
        ("QW001", 16.0, {Severity.INFO}),
        ("QW001", 31.0, set()),
        ("QW001", None, {Severity.WARNING}),
        ("QW002", 14.0, {Severity.WARNING}),
        ("QW002", 16.0, {Severity.INFO}),
        ("QW002", 31.0, set()),
        ("QW002", None, {Severity.INFO}),
        ("QW003", 9.0, {Severity.WARNING}),
        ("QW003", 11.0, {Severity.INFO}),
        ("QW003", 31.0, set()),
        ("QW003", None, {Severity.INFO}),
    ],
)
def test_a_bad_weight_is_judged_by_its_forecast(code: str, level_db: float | None, expected: set[Severity]) -> None:
    facts = block(0.003, 14, depthwise=code == "QW001")
    assert severities(RULES[code], forecast_at(facts, level_db)) == expected


@pytest.mark.parametrize("code", ["QW001", "QW002"])
@pytest.mark.parametrize(("level_db", "expected"), [(9.0, {Severity.WARNING}), (11.0, set()), (None, set())])
def test_a_mediocre_weight_is_named_only_if_its_forecast_is_very_low(
    code: str, level_db: float | None, expected: set[Severity]
) -> None:
    facts = block(0.15, 12, depthwise=code == "QW001")
    assert severities(RULES[code], forecast_at(facts, level_db)) == expected


@pytest.mark.parametrize("code", ["QW001", "QW002"])
def test_channels_of_like_width_are_not_blamed_whatever_the_forecast(code: str) -> None:
    facts = block(0.6, 12, depthwise=code == "QW001")
    assert severities(RULES[code], forecast_at(facts, -10.0)) == set()


@pytest.mark.parametrize("code", ["QB001", "QB002"])
@pytest.mark.parametrize(
    ("level_db", "expected"),
    [(14.0, {Severity.WARNING}), (16.0, {Severity.INFO}), (31.0, set()), (None, {Severity.WARNING})],
)
def test_batch_norm_rules_warn_five_decibels_below_the_level(
    code: str, level_db: float | None, expected: set[Severity]
) -> None:
    rule = RULES[code]
    assert severities(rule, forecast_at(example_facts(rule.bad[0]), level_db)) == expected


def test_what_a_run_measured_to_be_harmful_is_a_warning_whatever_the_forecast() -> None:
    rule = RULES["QB002"]
    facts = forecast_at(example_facts(rule.bad[0]), 31.0)
    for left_db, expected in ((12.0, {Severity.WARNING}), (28.0, set())):
        cost = TensorCost("normal", Subject.WEIGHT, NAME, left_db, 4)
        assert severities(rule, facts.costed({NAME: SchemeCosts(NAME, 8.0, (cost,))})) == expected


def test_a_still_channel_that_is_not_the_widest_is_left_to_other_rules() -> None:
    rule = RULES["QB002"]
    made = rule.bad[0].weights
    assert made is not None

    def wider(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        values = dict(made(random))
        values["w"][5] *= 1e4
        return values

    facts = example_facts(replace(rule.bad[0], weights=wider))
    (said,) = rule().check(facts)
    assert isinstance(said, Silence) and said.unmet.startswith("a channel that varies is the widest, ")


def test_without_a_forecast_a_still_channel_that_harms_no_other_is_an_info() -> None:
    rule = RULES["QB002"]
    facts = forecast_at(example_facts(rule.bad[0]), None)
    mean_db = facts.layer_by_output["normal"].weight.mean_channel_sqnr_db(NAME)
    assert mean_db is not None
    for level_db, expected in ((mean_db + 1, Severity.WARNING), (mean_db - 1, Severity.INFO)):
        assert {found.severity for found in rule(**{"blind_below_db": level_db}).findings(facts)} == {expected}
