"""What a page tells of its making: enough to make it again, and nothing of the machine that was not asked for."""

from __future__ import annotations

import re
from dataclasses import replace

import samples

from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.formats import Look
from onnxlint_q.report.origin import UNTOLD, origin
from onnxlint_q.workflow.results import FileFacts, Run

TYPED = ["/home/somebody/net of mine.onnx", "--calibrate", "data/images", "--html=/tmp/out/page.html", "--samples", "8"]


def test_the_command_is_told_without_folders_unless_paths_are_asked_for() -> None:
    assert origin(TYPED).command == ("onnxlint-q 'net of mine.onnx' --calibrate images --html=page.html --samples 8")
    assert "/home/somebody" in origin(TYPED, paths=True).command


def test_no_date_is_told_unless_it_is_asked_for_and_it_can_be_given() -> None:
    assert origin(TYPED).made == ""
    assert origin(TYPED, dated=True, environment={"SOURCE_DATE_EPOCH": "86400"}).made == "1970-01-02 00:00 UTC"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", origin(TYPED, dated=True, environment={}).made)


def test_a_page_says_where_it_comes_from_and_is_the_same_each_time() -> None:
    (model,) = samples.small().models
    run = Run((replace(model, file=FileFacts(1_900_000, "pytorch 2.3", 8, "somewhere/onnxlint-q.toml")),))
    look = Look(origin=lambda: replace(origin(TYPED), processor="A <b>processor</b>"))
    text = render(run, ReportFormat.HTML, look)
    rows = dict(re.findall(r"<dt>([^<]*)</dt><dd>(?:<code>)?(.*?)(?:</code>)?</dd>", text[text.index("-origin") :]))
    assert rows["Size"] == "1.9 MB" and rows["Producer"] == "pytorch 2.3" and rows["SHA-256"] == model.sha256
    assert rows["Format"] == "float, opset 13, IR version 8"
    assert rows["Command"].startswith("onnxlint-q &#39;net of mine.onnx&#39;")
    assert "onnxruntime " in rows["Tool"] and rows["Processor"] == "A &lt;b&gt;processor&lt;/b&gt;"
    assert rows["Samples"] == "32 for ranges and claims, 16 others held out for the verdict"
    assert rows["Configuration"] == "onnxlint-q.toml" and "Made" not in rows
    assert text == render(run, ReportFormat.HTML, look)


def test_a_program_gets_a_page_without_machine_or_time() -> None:
    text = render(samples.small(), ReportFormat.HTML)
    assert UNTOLD.command == "" and "<dt>Processor</dt>" not in text and "<dt>Command</dt>" not in text
