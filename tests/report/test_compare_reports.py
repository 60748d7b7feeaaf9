"""Reports of a comparison: every format, hostile names, figures that are missing or infinite."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import samples

from onnxlint_q.analysis.observed.readings import WeightReading
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.finding import Confidence, Evidence, Finding, Location, Severity, Suppression, Suppressor
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report import ReportFormat
from onnxlint_q.report.compare import render
from onnxlint_q.report.formats import Look
from onnxlint_q.workflow.comparison import (
    ComparedFile,
    Comparison,
)
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    ClassifierError,
    ComparedRow,
    ModelResult,
    QparamsReading,
    SchemeResult,
)

HOSTILE = "</script><img src=x onerror=alert(1)>[bold]\x1b[31m\u202e{{7*7}}\ud800"
READING = QparamsReading(1.0, -13, -124.0, 151.0, -2.1, 2.6, 0.0, 5, 256, 58.0, 9.4)
INPUT = ComparedRow("x", "Input", False, "x", "x", 9.4, 0.1, 3.0, 2.0, 0.9, math.inf, math.inf, qparams=READING)
WEIGHT = WeightReading("w", 1.0, math.inf, np.full(4, 150.0), 1, 1.0)
LAYER = ComparedRow("conv", "Conv", True, "y", "z", 30.0, 0.1, 3.0, 0.0, 1.0, 9.4, -20.6, weight=WEIGHT)
JUMP = Finding(
    code="QC001",
    name="lossy-activation-qparams",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    message=f"58 times too wide {HOSTILE}",
    location=Location(node=HOSTILE, op_type="QuantizeLinear", output="x"),
    metrics={"part": "input", "tensor": HOSTILE, "jump_at": "x"},
    remedy="Calibrate again.",
    snippet=f"override {HOSTILE}",
    evidence=Evidence.CONFIRMED,
    measured_db=9.4,
)
LEVELS = {"jump_db": 6.0, "bad_db": 20.0, "broken_db": 10.0}


def comparison(
    *rows: ComparedRow, verdict: Verdict | None = Verdict.BREAKS, findings: tuple[Finding, ...] = ()
) -> Comparison:
    model = ModelResult(
        path=HOSTILE,
        sha256="0" * 64,
        opset=13,
        format="qdq",
        schemes=(SchemeResult("qdq", verdict, 1.0, Basis.MEASURED, 0.25),),
        layers=(),
        findings=findings,
        calibration=CalibrationSummary(HOSTILE, "raw", 8, 0),
        notes=(HOSTILE,),
    )
    return Comparison(
        reference=ComparedFile(HOSTILE, "0" * 64, 13, "float", 1),
        quantized=model,
        classifier=ClassifierError(0.25, 0.001, 3.0, 2.5, Top1(8, 6, 4, 1)),
        rows=rows,
        unpaired_quantized=(HOSTILE,),
        levels={**LEVELS, "inherited_db": 3.0},
    )


BROKEN = comparison(replace(INPUT, node=HOSTILE), LAYER, findings=(JUMP,))


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


@pytest.mark.parametrize("report_format", list(ReportFormat))
def test_hostile_names_reach_no_terminal_and_no_browser(report_format: ReportFormat) -> None:
    text = render(BROKEN, report_format)
    assert text.endswith("\n") and "\x1b" not in text and "\u202e" not in text
    text.encode()
    if report_format is ReportFormat.HTML:
        assert "img" not in Tags(text).found and "onerror=alert(1)&gt;" in text and "{{7*7}}" in text
    if report_format is ReportFormat.FULL:
        assert "[bold]" in text


def test_json_has_every_figure_and_nothing_infinite() -> None:
    document = json.loads(render(BROKEN, ReportFormat.JSON))
    first, second = document["tensors"]
    assert document["version"] == 1 and document["verdict"] == "breaks" and document["first_jump"] == "x"
    assert first["qparams"]["span_ratio"] == 58 and first["reads_db"] is None and first["jumps"] is True
    (fault,) = first["faults"]
    assert (fault["what"], fault["alone_db"], fault["message"]) == ("input", 9.4, document["findings"][0]["message"])
    assert document["findings"][0]["code"] == "QC001" and document["levels"] == LEVELS
    assert second["weight_sqnr_db"] is None and second["faults"] == [] and second["jumps"] is False
    assert document["classifier"]["quantised_accuracy"] == 0.375 and document["classifier"]["labelled"] == 8
    assert document["classifier"]["top1"]["lost"] == 0.375
    perfect = json.loads(render(comparison(replace(LAYER, sqnr_db=math.inf)), ReportFormat.JSON))
    assert perfect["tensors"][0]["sqnr_db"] is None and perfect["tensors"][0]["reason"] == "perfect match"


def test_the_page_marks_the_jump_and_carries_its_data() -> None:
    page = render(BROKEN, ReportFormat.HTML)
    assert 'class="jump"' in page and "first jump" in page
    assert "http://" not in page and "https://" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["verdict"] == "breaks"


def test_the_first_screen_says_where_the_error_comes_from() -> None:
    def said(found: Comparison) -> str:
        paragraph = render(found, ReportFormat.FULL).split("Where the error comes from: ")[1].split("\n\n")[0]
        told = " ".join(paragraph.split())
        page = render(found, ReportFormat.HTML)
        assert f"<strong>Where the error comes from.</strong> {told}" in page and "No rule explains it" not in page
        return told

    assert said(comparison(LAYER, verdict=Verdict.SURVIVES)) == "Nothing jumps; the output survives."
    falls = replace(LAYER, drop_db=5.0)
    assert said(comparison(falls)) == (
        "Nothing jumps: the error builds up, and the output breaks; most is lost, 5.0 dB, at conv."
    )
    # What the float operator makes of the same inputs is no loss of its own.
    assert said(comparison(replace(falls, inherited_db=31.0))) == (
        "Nothing jumps: the error builds up, and the output breaks."
    )
    assert said(comparison(LAYER, verdict=None)) == "Nothing jumps; nothing could be measured at the output."
    jump = replace(JUMP, message="The range is 58 times too wide.")
    told = "The range is 58 times too wide. (QC001) The output breaks."
    assert said(comparison(INPUT, findings=(jump,))) == told


def test_the_table_is_told_on_demand() -> None:
    found = comparison(INPUT, LAYER)
    brief, whole = (render(found, ReportFormat.FULL, Look(verbose=verbose)) for verbose in (False, True))
    assert "QKL" not in brief and "--verbose shows" in brief
    assert "QKL" in whole and "--verbose shows" not in whole and "softmax QMSE" in whole


def test_an_error_that_heals_is_no_jump() -> None:
    healed = replace(JUMP, severity=Severity.INFO, note="It heals: 37.5 dB again at add.")
    found = comparison(INPUT, verdict=Verdict.SURVIVES, findings=(healed,))
    assert not found.jumps
    document = json.loads(render(found, ReportFormat.JSON))
    assert document["first_jump"] is None and document["tensors"][0]["faults"] == []
    assert "It heals: 37.5 dB again at add." in render(found, ReportFormat.FULL, Look(verbose=True))


@pytest.mark.parametrize("report_format", [ReportFormat.FULL, ReportFormat.CONCISE, ReportFormat.HTML])
def test_findings_read_as_in_check(report_format: ReportFormat) -> None:
    finding = replace(JUMP, message="58 times too wide.", location=Location(node="q", output="x"))
    text = render(comparison(INPUT, findings=(finding,)), report_format)
    known = "measured 9.4 dB" if report_format is ReportFormat.FULL else "confirmed 9.4 dB"
    for part in ("QC001", "lossy-activation-qparams", "error", known, "58 times too wide."):
        assert part in text


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_the_only_green_mark_is_that_of_a_verdict_that_survives(verdict: Verdict | None) -> None:
    for report_format in (ReportFormat.FULL, ReportFormat.HTML):
        text = render(comparison(LAYER, verdict=verdict), report_format)
        assert text.count("✔") == (1 if verdict is Verdict.SURVIVES else 0)


def test_a_page_tells_no_folder_of_the_machine_and_the_other_formats_what_was_typed() -> None:
    typed = ("/home/somebody/float net.onnx", "C:\\Users\\somebody\\int8.onnx", "/data/secret/photos/")
    found = comparison(LAYER)
    model = replace(
        found.quantized,
        path=typed[1],
        calibration=replace(found.calibration, source=typed[2]),
        notes=(f"{typed[0]} has other names",),
    )
    found = replace(found, reference=replace(found.reference, path=typed[0]), quantized=model)
    page = render(found, ReportFormat.HTML)
    assert "somebody" not in page and "secret" not in page
    assert all(name in page for name in ("float net.onnx has other names", ">int8.onnx</h1>", "photos: 8 samples"))
    full, document = render(found, ReportFormat.FULL), json.loads(render(found, ReportFormat.JSON))
    assert all(path in " ".join(full.split()) for path in typed)
    assert [document["float"]["path"], document["quantised"]["path"], document["calibration"]["source"]] == [*typed]


def test_what_is_suppressed_is_told_with_its_reason() -> None:
    comparison = samples.compared(samples.small())
    why = Suppression(Suppressor.CONFIGURATION, "[[suppress]] 1 of x.toml", "accepted until 2.1")
    known = replace(samples.static("bn"), suppression=why)
    comparison = replace(comparison, quantized=replace(comparison.quantized, suppressed=(known,)))
    full = " ".join(render(comparison, ReportFormat.FULL, Look(verbose=True)).split())
    assert "Suppressed: 1" in full and "accepted until 2.1" in full and "1 suppressed" in full
    assert render(comparison, ReportFormat.CONCISE).splitlines()[-1] == "1 suppressed"
    (told,) = json.loads(render(comparison, ReportFormat.JSON))["suppressed"]
    assert told["suppression"] == {"by": "configuration", "where": why.where, "reason": why.reason}


def test_chart_row_and_finding_link_to_each_other() -> None:
    page = render(BROKEN, ReportFormat.HTML)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    (finding,) = (one for one in ids if one.startswith("f-"))
    place = page[page.index(f'id="{finding}"') :].partition("</li>")[0]
    assert 'href="#m-1-l-1"' in place and 'href="#m-1-p-1"' in place
    row = page[page.index('<tr id="m-1-l-1"') :].partition("</tr>")[0]
    assert f'href="#{finding}"' in row and 'href="#m-1-p-1"' in row
    mark = page[page.index('id="m-1-p-1"') :].partition("</a>")[0]
    assert 'href="#m-1-l-1"' in mark
    assert 'role="group" aria-label="SQNR along the network"' in page


def test_a_row_without_a_figure_links_to_no_mark() -> None:
    perfect = replace(LAYER, sqnr_db=math.inf)
    page = render(comparison(INPUT, perfect, findings=(JUMP,)), ReportFormat.HTML)
    assert 'href="#m-1-p-1"' in page and "m-1-p-2" not in page
    ids = set(re.findall(r' id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids


def test_the_page_tells_where_it_is_suppressed_without_folders() -> None:
    why = Suppression(Suppressor.CONFIGURATION, "[[suppress]] 1 of team/secret/onnxlint-q.toml", "known since 1.0 <b>")
    model = replace(comparison(INPUT).quantized, suppressed=(replace(JUMP, suppression=why),))
    page = render(replace(comparison(INPUT), quantized=model), ReportFormat.HTML)
    assert "known since 1.0 &lt;b&gt; ([[suppress]] 1 of onnxlint-q.toml)" in page and "team/secret" not in page


def test_quiet_tells_what_fails_alone() -> None:
    lines = render(BROKEN, ReportFormat.FULL, Look(quiet=True)).splitlines()
    assert len(lines) == 2 and "qdq breaks" in lines[0] and "QC001" in lines[1]
    sound = comparison(INPUT, verdict=Verdict.SURVIVES)
    assert render(sound, ReportFormat.FULL, Look(quiet=True)) == ""
