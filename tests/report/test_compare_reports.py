"""Reports of a comparison: every format, hostile names, figures that are missing or infinite."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report import ReportFormat
from onnxlint_q.report.compare import render
from onnxlint_q.workflow.results import (
    CalibrationSummary,
    ClassifierError,
    ComparedFile,
    ComparedRow,
    Comparison,
    Fault,
    QparamsReading,
)

HOSTILE = "</script><img src=x onerror=alert(1)>[bold]\x1b[31m\u202e{{7*7}}\ud800"
READING = QparamsReading(1.0, -13, -124.0, 151.0, -2.1, 2.6, 0.0, 5.0, 256, 58.0, 9.4)
FAULT = Fault("input", HOSTILE, 9.4, f"58 times too wide {HOSTILE}", "calibrate again", f"override {HOSTILE}")
INPUT = ComparedRow("x", "Input", False, "x", "x", 9.4, 0.1, 3.0, 2.0, 0.9, math.inf, math.inf)
LAYER = ComparedRow("conv", "Conv", True, "y", "z", 30.0, 0.1, 3.0, 0.0, 1.0, 9.4, -20.6, weight_sqnr_db=math.inf)


def comparison(*rows: ComparedRow, verdict: Verdict | None = Verdict.BREAKS) -> Comparison:
    file = ComparedFile(HOSTILE, "0" * 64, 13, "float", 1)
    return Comparison(
        reference=file,
        quantized=replace(file, format="qdq"),
        verdict=verdict,
        output_sqnr_db=1.0,
        classifier=ClassifierError(0.25, 0.001, 3.0, 2.5, 8, 0.75, 0.375),
        rows=rows,
        calibration=CalibrationSummary(HOSTILE, "raw", 8, 0),
        unpaired_quantized=(HOSTILE,),
        notes=(HOSTILE,),
    )


BROKEN = comparison(replace(INPUT, node=HOSTILE, qparams=READING, jumps=True, faults=(FAULT,)), LAYER)


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
    assert first["faults"][0]["alone_db"] == 9.4 and second["weight_sqnr_db"] is None
    assert document["classifier"]["quantised_accuracy"] == 0.375
    perfect = json.loads(render(comparison(replace(LAYER, sqnr_db=math.inf)), ReportFormat.JSON))
    assert perfect["tensors"][0]["sqnr_db"] is None and perfect["tensors"][0]["reason"] == "perfect match"


def test_the_page_marks_the_jump_and_carries_its_data() -> None:
    page = render(BROKEN, ReportFormat.HTML)
    assert 'class="jump"' in page and "first jump" in page
    assert "http://" not in page and "https://" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["verdict"] == "breaks"


def test_the_last_line_says_how_it_ends() -> None:
    def last(found: Comparison) -> str:
        return render(found, ReportFormat.FULL).strip().split("\n")[-1]

    assert last(comparison(LAYER, verdict=Verdict.SURVIVES)) == "Nothing jumps, and the output survives"
    assert last(comparison(replace(LAYER, drop_db=5.0))).startswith(
        "Nothing jumps: the error builds up, and the output breaks; it falls most, by 5.0 dB, at conv"
    )
    assert last(comparison(LAYER, verdict=None)) == "Nothing jumps, but nothing could be measured at the output"
    assert last(comparison(replace(INPUT, jumps=True, faults=(FAULT,)))) == "The error first jumps at x"


def test_a_quiet_comparison_is_quiet_in_every_sense() -> None:
    assert comparison(LAYER, verdict=Verdict.SURVIVES).quiet
    assert not comparison(LAYER, verdict=Verdict.DEGRADES).quiet and not BROKEN.quiet
    for verdict in (None, *Verdict):
        page = render(comparison(LAYER, verdict=verdict), ReportFormat.HTML)
        healthy = verdict is Verdict.SURVIVES
        assert "Nowhere." in page and ('class="nothing clean"' in page) is healthy
        # The verdict has its own mark.
        assert page.count("✔") == (2 if healthy else 0)


def test_a_page_tells_no_folder_of_the_machine_and_the_other_formats_what_was_typed() -> None:
    typed = ("/home/somebody/float net.onnx", "C:\\Users\\somebody\\int8.onnx", "/data/secret/photos/")
    found = comparison(LAYER)
    found = replace(
        found,
        reference=replace(found.reference, path=typed[0]),
        quantized=replace(found.quantized, path=typed[1]),
        calibration=replace(found.calibration, source=typed[2]),
        notes=(f"{typed[0]} has other names",),
    )
    page = render(found, ReportFormat.HTML)
    assert "somebody" not in page and "secret" not in page
    assert all(name in page for name in ("float net.onnx has other names", ">int8.onnx</h1>", "photos: 8 samples"))
    full, document = render(found, ReportFormat.FULL), json.loads(render(found, ReportFormat.JSON))
    assert all(path in " ".join(full.split()) for path in typed)
    assert [document["float"]["path"], document["quantised"]["path"], document["calibration"]["source"]] == [*typed]
