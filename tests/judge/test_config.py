"""The configuration: what a file and the command line say, which of them wins, and errors that name their key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Severity
from onnxlint_q.judge.config import SCHEME_NAMES, Config, Overrides, find_config, parse_config
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.verdict import Verdict

CHOICES = f"{', '.join(SCHEME_NAMES)}, or all"

RULES = [entry.rule for entry in load_rules()]
HERE = Path("x.toml")


def codes(config: Config) -> set[str]:
    return {rule.code for rule in config.build(RULES)}


def test_what_a_file_says_of_the_exit_code_and_the_schemes() -> None:
    assert (Config().fail_on_verdict, Config().schemes) == (Verdict.BREAKS, None), "None: by the kind of network"
    said = parse_config({"fail-on": "none", "fail-on-verdict": "degrades", "scheme": ["fp8", "fp8"]}, HERE)
    assert (said.fail_on, said.fail_on_verdict, said.schemes) == (None, Verdict.DEGRADES, (SCHEMES["fp8"],))
    assert parse_config({"scheme": ["all"]}, HERE).schemes == tuple(SCHEMES.values())
    assert parse_config({"fail-on-verdict": "none"}, HERE).fail_on_verdict is None


def test_rules_are_named_in_any_case() -> None:
    config = parse_config(
        {
            "select": ["qw", "Outlier-Gamma"],
            "ignore": ["qw002"],
            "severity": {"qW001": "error", "OUTLIER-gamma": "info"},
            "rules": {"Qw001": {"average-precision": 0.5}},
        },
        HERE,
    )
    rules = {rule.code: rule for rule in config.build(RULES)}
    assert {"QW001", "QB001"} <= set(rules) and not {"QW002", "QB002"} & set(rules)
    assert config.severity_of(rules["QW001"]) is Severity.ERROR and config.severity_of(rules["QB001"]) is Severity.INFO
    assert config.severity_of(rules["QW003"]) is None
    assert rules["QW001"].average_precision == 0.5  # type: ignore[attr-defined]


def test_what_stands_under_the_name_of_a_rule_goes_over_what_stands_under_its_code() -> None:
    tables = {"low-depthwise-average-precision": {"average-precision": 0.5}, "QW001": {"average-precision": 0.4}}
    for order in (tables, dict(reversed(tables.items()))):
        (rule,) = parse_config({"select": ["QW001"], "rules": order}, HERE).build(RULES)
        assert rule.average_precision == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"fail-on": "high"}, "x.toml: fail-on 'high' is not one of error, warning, info, none"),
        ({"fail-on-verdict": "survives"}, "x.toml: fail-on-verdict 'survives' is not one of breaks, degrades, none"),
        (
            {"scheme": ["int8-per-tensor", "int3"]},
            f"x.toml: scheme 'int3': choose from {CHOICES}",
        ),
        ({"scheme": []}, f"x.toml: scheme '': choose from {CHOICES}"),
        ({"scheme": "fp8"}, "x.toml: 'scheme' must be a list of words, not 'fp8'"),
        ({"ignore": "QW001"}, "x.toml: 'ignore' must be a list of words, not 'QW001'"),
        ({"confirm-below-db": True}, "x.toml: 'confirm-below-db' must be a finite number, not True"),
        ({"verdict": {"breaks-db": "a"}}, "x.toml: 'verdict.breaks-db' must be a finite number, not 'a'"),
        (
            {"verdict": {"survives-agreement": 3}},
            "x.toml: verdict.survives-agreement must be a fraction from 0 to 1",
        ),
        (
            {"rules": {"QW001": {"average-precision": float("nan")}}},
            "x.toml: [rules.low-depthwise-average-precision] average-precision must be a finite number, not nan",
        ),
        ({"verdict": {"breaks": 1}}, "x.toml: unknown key 'breaks' in [verdict] (did you mean 'breaks-db'?)"),
        ({"verdict": 3}, "x.toml: 'verdict' must be a table, not 3"),
        ({"rules": {"QW001": 3}}, "x.toml: 'rules.QW001' must be a table, not 3"),
        ({"severity": {"QW001": "none"}}, "x.toml: severity.QW001 cannot be none; put the rule into ignore"),
        ({"severity": {"QW001": 4}}, "x.toml: severity.QW001 4 is not one of error, warning, info, none"),
        ({"selct": []}, "x.toml: unknown key 'selct' (did you mean 'select'?)"),
        ({"select": ["QZ"]}, "x.toml: select 'QZ': no rule matches; see `onnxlint-q rule --all`"),
        (
            {"severity": {"outlier-gama": "info"}},
            "x.toml: [severity] unknown rule 'outlier-gama' (did you mean 'outlier-gamma'?)",
        ),
        (
            # Of a rule that does not run, too: the mistake is there all the same.
            {"ignore": ["QW"], "rules": {"qw001": {"average-precison": 1}}},
            "x.toml: [rules.low-depthwise-average-precision] has no option 'average-precison' (did you mean "
            "'average_precision'?)",
        ),
        (
            {"rules": {"QW001": {"average-precision": "a"}}},
            "x.toml: [rules.low-depthwise-average-precision] average-precision must be a number, not 'a'",
        ),
    ],
)
def test_an_error_names_the_file_and_the_key_and_is_the_only_one(table: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config(table, HERE).build(RULES)
    assert str(caught.value) == message


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "onnxlint-q.toml").write_text(
        'ignore = ["QW"]\nscheme = ["fp8"]\nfail-on = "error"\nfail-on-verdict = "none"\n'
    )
    model = tmp_path / "m.onnx"
    assert Overrides().config_for(model) == find_config(model)
    over = Overrides(scheme=("int8-symmetric",), fail_on="info", fail_on_verdict="degrades", ignore=("qb",))
    config = over.config_for(model)
    assert (config.schemes, config.fail_on) == ((SCHEMES["int8-symmetric"],), Severity.INFO)
    assert config.fail_on_verdict is Verdict.DEGRADES
    assert not any(code.startswith(("QW", "QB")) for code in codes(config)), "ignore adds to the file's"
    assert codes(Overrides(select=("QW001",)).config_for(model)) == {"QW001"}, "who selects starts anew"
    assert Overrides(search=False).config_for(model) == Config()
    assert Overrides(file=tmp_path / "onnxlint-q.toml").config_for(Path("elsewhere.onnx")).fail_on is Severity.ERROR


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (Overrides(fail_on=""), "--fail-on '' is not one of error, warning, info, none"),
        (Overrides(fail_on_verdict="bad"), "--fail-on-verdict 'bad' is not one of breaks, degrades, none"),
        (Overrides(scheme=()), f"--scheme '': choose from {CHOICES}"),
        (Overrides(extend_select=("QZ",)), "--extend-select 'QZ': no rule matches; see `onnxlint-q rule --all`"),
    ],
)
def test_an_error_of_the_command_line_names_the_option(over: Overrides, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        over.check(RULES)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("words", "schemes", "half"),
    [
        (["fp16"], (), True),
        (["fp16", "fp8"], ("fp8",), True),
        (["fp8"], ("fp8",), False),
        (["all"], tuple(SCHEMES), True),
    ],
)
def test_float16_is_a_scheme_beside_those_that_quantise(words: list[str], schemes: tuple[str, ...], half: bool) -> None:
    config = parse_config({"scheme": words}, HERE)
    assert config.schemes is not None and tuple(scheme.name for scheme in config.schemes) == schemes
    assert config.half is half and Config().half is False
