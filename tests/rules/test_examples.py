"""Every rule flags what its bad examples name, and nothing in its good ones."""

from __future__ import annotations

import pytest
from fusing import FUSES

from onnxlint_q.finding import Evidence, Silence
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.proof.testing import calibrated_facts, flagged, pair_facts, run_example

RULES = [entry.rule for entry in load_rules()]
GOOD = [
    pytest.param(rule, example, id=f"{rule.code}-{rule.name}-good{number}")
    for rule in RULES
    for number, example in enumerate(rule.good)
]
# What kernels do differently shows where ONNX Runtime puts them in.
OF_KERNELS = {"QR001", "QR002"}
BAD = [
    pytest.param(
        rule,
        example,
        id=f"{rule.code}-{rule.name}-bad{number}",
        marks=[FUSES] if rule.code in OF_KERNELS else [],
    )
    for rule in RULES
    for number, example in enumerate(rule.bad)
]
EACH = [pytest.param(rule, id=f"{rule.code}-{rule.name}") for rule in RULES]


@pytest.mark.parametrize(("rule", "example"), GOOD)
def test_good_example_is_not_flagged(rule: type[Rule], example: Example) -> None:
    assert not example.flags, "a good example names nothing to flag"
    assert [finding.message for finding in run_example(rule(), example)] == []


@pytest.mark.parametrize(("rule", "example"), BAD)
def test_bad_example_flags_its_nodes(rule: type[Rule], example: Example) -> None:
    findings = run_example(rule(), example)
    assert example.flags, "a bad example names what must be flagged"
    assert flagged(findings) == set(example.flags)
    for finding in findings:
        assert (finding.code, finding.name) == (rule.code, rule.name)
        assert finding.message and finding.remedy
        shown = Evidence.CONFIRMED if example.samples is not None else Evidence.STATIC
        assert finding.evidence is (Evidence.UNTESTED if finding.claim else shown)


@pytest.mark.parametrize(("rule", "example"), GOOD)
def test_a_rule_says_why_a_good_one_is_not_flagged(rule: type[Rule], example: Example) -> None:
    facts = pair_facts(example) if example.reference else calibrated_facts(example)
    if rule.needs_calibration and facts.data is None:
        pytest.skip("it says nothing without data, and is said to need it")
    told = list(rule().check(facts))
    assert told and all(isinstance(said, Silence) for said in told)
    for said in told:
        assert isinstance(said, Silence) and said.location.label
        assert said.unmet and not said.unmet[0].isupper() and said.unmet[-1] not in ".?!"


@pytest.mark.parametrize("rule", EACH)
def test_rule_has_examples_of_both_kinds(rule: type[Rule]) -> None:
    assert rule.good
    assert rule.bad or rule.needs_calibration, "only what hangs on the data source cannot be shown by a model"


@pytest.mark.parametrize("rule", EACH)
def test_module_is_named_like_the_rule(rule: type[Rule]) -> None:
    snake = rule.name.replace("-", "_")
    assert rule.__module__.rpartition(".")[2] == snake
    assert rule.__name__.lower() == snake.replace("_", "")


@pytest.mark.parametrize("rule", EACH)
def test_options_say_what_they_mean_and_where_they_come_from(rule: type[Rule]) -> None:
    for name, _, meaning, source in rule.options():
        assert meaning, name
        assert source, name


@pytest.mark.parametrize("rule", EACH)
def test_rule_that_needs_a_run_is_silent_without(rule: type[Rule]) -> None:
    if not (rule.needs_calibration or rule.needs_comparison):
        pytest.skip("works without a run")
    for example in rule.bad:
        blind = Example(example.model, weights=example.weights)
        assert run_example(rule(), blind) == []
