"""Test results, read by a parser that build tools use, and held to what readers of JUnit files ask for."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import samples

from onnxlint_q.finding import Evidence, Suppression, Suppressor
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.workflow.results import Run

junitparser = pytest.importorskip("junitparser", reason="junitparser is not installed; it is in the extra dev")

# The schema that Jenkins publishes with its xUnit plug-in: what may stand in what, and what has to be there.
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}
NEEDED = {"testsuite": {"name", "tests"}, "testcase": {"name", "classname"}, "failure": {"message", "type"}}
COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def read(run: Run) -> ET.Element:
    text = render(run, ReportFormat.JUNIT)
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        children = [child.tag for child in element]
        assert set(children) <= CHILDREN.get(element.tag, set()) and NEEDED.get(element.tag, set()) <= set(
            element.attrib
        )
        if element.tag in {"testsuites", "testsuite"}:
            cases = list(element.iter("testcase"))
            assert int(element.attrib["tests"]) == len(cases)
            for name, tag in COUNTS.items():
                assert int(element.attrib[name]) == sum(case.find(tag) is not None for case in cases)
        if element.tag == "testcase":
            assert len(children) <= 1
    return root


def results(run: Run) -> dict[str, str]:
    """Outcome by name of the case, as junitparser has it."""
    xml = junitparser.JUnitXml.fromstring(render(run, ReportFormat.JUNIT).encode())
    cases = [case for suite in xml for case in suite]
    return {case.name: next((type(one).__name__ for one in case.result), "Passed") for case in cases}


@pytest.mark.parametrize("name", ["small", "chained", "remedied", "large", "quantised", "nothing", "empty", "hostile"])
def test_every_run_is_a_report(name: str) -> None:
    run = getattr(samples, name)()
    root = read(run)
    assert len(root) == len(run.models) + len(run.failures) and results(run)


def test_what_fails_the_build_is_a_failure() -> None:
    (model,) = samples.small().models
    told = results(Run((model,)))
    assert told["int8-per-tensor"] == "Failure" and told["int8-per-channel"] == "Passed"
    assert [outcome for name, outcome in told.items() if name.startswith("QW001")] == ["Failure", "Skipped"]
    lenient = results(Run((replace(model, fail_on=None, fail_on_verdict=None),)))
    assert "Failure" not in lenient.values() and lenient.keys() == told.keys()


def test_what_is_known_or_refuted_is_skipped_with_the_reason() -> None:
    (model,) = samples.small().models
    why = Suppression(Suppressor.CONFIGURATION, "[[suppress]] 1 of x.toml", "accepted until 2.1")
    known = replace(samples.static("bn"), suppression=why)
    refuted = samples.spread("dw7", 40.0, Evidence.REFUTED)
    run = Run((replace(model, findings=(refuted,), suppressed=(known,), accepted=("int8-per-tensor",)),))
    cases = {case.attrib["name"]: case.find("skipped") for case in read(run).iter("testcase")}
    said = [element.attrib["message"] for element in cases.values() if element is not None]
    assert said[0].endswith("as the baseline has it")
    assert said[1:] == [
        "suppressed: accepted until 2.1 ([[suppress]] 1 of x.toml)",
        "Predicted, but not seen when measured (ignored)",
    ]
    assert not run.fails and "Failure" not in results(run).values()


def test_a_clean_model_has_a_case_that_passes() -> None:
    (model,) = samples.small().models
    assert results(Run((replace(model, schemes=(), findings=()),))) == {"no findings": "Passed"}


def test_a_model_that_could_not_be_linted_is_an_error() -> None:
    (suite,) = read(samples.empty())
    error = suite.find("testcase/error")
    assert suite.attrib["errors"] == "1" and error is not None and "not an ONNX file" in str(error.text)


def test_a_comparison_is_told_as_its_quantised_file() -> None:
    comparison = samples.compared(samples.small())
    assert render_comparison(comparison, ReportFormat.JUNIT) == render(comparison.as_run, ReportFormat.JUNIT)
