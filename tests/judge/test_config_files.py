"""Settings of single models, data, origins, and the published schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT

from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Severity
from onnxlint_q.judge.config import Data, Overrides, for_model, parse_config, read_config
from onnxlint_q.judge.config.schema import schema, schema_text
from onnxlint_q.judge.explain import settings
from onnxlint_q.judge.registry import load_rules

RULES = [entry.rule for entry in load_rules()]
LAYERED = """
ignore = ["QG002"]
fail-on = "error"
[severity]
QW001 = "error"
[verdict]
breaks-db = 7
[rules.QW001]
average-precision = 0.5
[data]
preprocess = "tf"
mean = [0.5, 0.25]
[models."old/*.onnx"]
ignore = ["QW"]
fail-on = "none"
scheme = ["int8-per-channel"]
[models."old/*.onnx".verdict]
survives-db = 30
[models."old/*.onnx".data]
calibrate = "data/a.npz"
resize = [96, 128]
[models."*/b.onnx"]
fail-on = "info"
[models."*/b.onnx".rules.QB001]
gain-ratio = 9
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "onnxlint-q.toml"
    path.write_text(LAYERED)
    return path


def test_settings_of_models_lie_on_those_of_the_file_in_their_order(file: Path) -> None:
    config, folder = read_config(file, RULES), file.parent
    new, old, both = (for_model(config, folder / name) for name in ("new/a.onnx", "old/a.onnx", "old/b.onnx"))
    assert (new.fail_on, new.levels.survives_db, new.schemes) == (Severity.ERROR, 14, None)
    assert new.selection.ignore == ("QG002",) and old.selection.ignore == ("QG002", "QW")
    assert (old.fail_on, old.levels.breaks_db, old.levels.survives_db) == (None, 7, 30)
    assert both.fail_on is Severity.INFO and both.levels.survives_db == 30, "the later glob is on top"
    assert set(both.options) == {"QW001", "QB001"} and both.severities == {"QW001": Severity.ERROR}
    assert Overrides(fail_on="warning").config_for(folder / "old/a.onnx").fail_on is Severity.WARNING


def test_data_of_models(file: Path) -> None:
    config = read_config(file, RULES)
    assert config.data == Data(preprocess="tf", mean="0.5,0.25")
    data = for_model(config, file.parent / "old" / "a.onnx").data
    assert data == Data(str(file.parent / "data/a.npz"), preprocess="tf", mean="0.5,0.25", resize="96x128")


def test_every_setting_says_where_it_comes_from(file: Path) -> None:
    config = for_model(read_config(file, RULES), file.parent / "old" / "b.onnx")
    lines = settings(config, RULES).splitlines()
    for line in (
        "confirm-below-db = 20  (default)",
        'fail-on = info  ([models."*/b.onnx"])',
        "verdict.breaks-db = 7  (onnxlint-q.toml)",
        'verdict.survives-db = 30  ([models."old/*.onnx"])',
        "verdict.breaks-agreement = 0.6  (default)",
        'data.calibrate = data/a.npz  ([models."old/*.onnx"])',
        "data.preprocess = tf  (onnxlint-q.toml)",
        'rules.outlier-gamma.gain-ratio = 9.0  ([models."*/b.onnx"]; default 8.0)',
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith("severity")], "the rule does not run"


def test_all_errors_of_a_file_are_told_at_once() -> None:
    table = {
        "fail_on": "error",
        "ignore": ["QW999"],
        "severity": {"outlier-gama": "error"},
        "data": {"calibrate": 3, "preproces": "tf"},
        "suppress": [{"code": "QZ1", "reason": "x"}],
        "models": {"a*": {"fail-on": "bad", "ignor": [], "baseline": "b"}, "b*": {"rules": {"QW001": {"x": 1}}}},
    }
    with pytest.raises(UsageError) as error:
        parse_config(table, Path("x.toml"), RULES)
    for part in (
        "unknown key 'fail_on' (did you mean 'fail-on'?)",
        "ignore 'QW999': no rule matches",
        "[severity] unknown rule 'outlier-gama' (did you mean 'outlier-gamma'?)",
        "data.calibrate 3: give a path",
        "unknown key 'preproces' in [data] (did you mean 'preprocess'?)",
        "[[suppress]] 1 of x.toml: no rule matches 'QZ1'",
        "[models.\"a*\"] fail-on 'bad' is not one of error, warning, info, none",
        "[models.\"a*\"] unknown key 'ignor' (did you mean 'ignore'?)",
        "[models.\"a*\"] 'baseline' cannot be set for single models; put it at the top of the file",
        "[models.\"b*\"] [rules.low-depthwise-average-precision] has no option 'x'",
    ):
        assert part in str(error.value)
    assert str(error.value).count("QW999") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"preprocess": "tff"},
        {"channel-order": "RGB"},
        {"layout": 1},
        {"mean": "0.5"},
        {"std": []},
        {"std": [True]},
        {"scale": "1"},
        {"resize": 1.5},
        {"crop": [1, 2, 3]},
        {"resize": 0},
        {"labels": ""},
    ],
)
def test_data_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    with pytest.raises(UsageError, match=rf"x.toml: data\.{key} .*: give "):
        parse_config({"data": wrong}, Path("x.toml"))
    assert not jsonschema.Draft202012Validator(schema(RULES)).is_valid({"data": wrong})


def test_the_published_schema_is_that_of_the_code() -> None:
    published = (ROOT / "docs" / "onnxlint-q.schema.json").read_text("utf-8")
    assert published == schema_text(RULES), "run `python docs/generate.py`"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


GOOD: list[dict[str, Any]] = [
    {},
    {"select": ["ALL"], "extend-select": [], "ignore": ["QW"], "scheme": ["all"], "target": ["ort-cpu"]},
    {"fail-on": "none", "fail-on-verdict": "degrades", "confirm-below-db": 15, "verdict": {"breaks-agreement": 0.5}},
    {"severity": {"QW001": "info"}, "rules": {"outlier-gamma": {"gain-ratio": 9}}},
    {"baseline": "b.json", "suppress-in-model": False, "rule-pages": "https://example.org/{code}"},
    {"suppress": [{"code": "QW001", "reason": "x"}, {"code": ["QW"], "reason": "x", "node": "*", "model": "a/*"}]},
    {"models": {"a/*": {"ignore": ["QW"], "data": {"calibrate": "random", "crop": 224, "std": 1}}}},
]
BAD: list[dict[str, Any]] = [
    {"fail_on": "error"},
    {"fail-on": "high"},
    {"scheme": []},
    {"scheme": ["int3"]},
    {"target": "ort-cpu"},
    {"confirm-below-db": "a"},
    {"verdict": {"survives-agreement": 3}},
    {"verdict": {"breaks": 3}},
    {"severity": {"QW001": "none"}},
    {"severity": {"QW999": "info"}},
    {"rules": {"QW001": {"average-precision": "a"}}},
    {"rules": {"QW001": {"x": 1}}},
    {"baseline": ""},
    {"suppress-in-model": 1},
    {"rule-pages": "docs/{code}.md"},
    {"rule-pages": "https://example.org"},
    {"suppress": [{"code": "QW001"}]},
    {"suppress": [{"code": "QW001", "reason": " "}]},
    {"suppress": [{"code": [], "reason": "x"}]},
    {"suppress": {"code": "QW001", "reason": "x"}},
    {"models": {"a": {"baseline": "b"}}},
    {"models": {"a": 1}},
]


@pytest.mark.parametrize("table", [*GOOD, *BAD], ids=json.dumps)
def test_the_schema_takes_what_the_reader_takes(table: dict[str, Any]) -> None:
    try:
        parse_config(table, Path("x.toml"), RULES)
    except UsageError:
        taken = False
    else:
        taken = True
    assert taken == jsonschema.Draft202012Validator(schema(RULES)).is_valid(table) == (table in GOOD)
