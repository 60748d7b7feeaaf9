"""What changed between two releases, told in words and as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import samples

from onnxlint_q.report import ReportFormat
from onnxlint_q.report.diff import FORMATS, render
from onnxlint_q.report.formats import Look
from onnxlint_q.workflow.diff import Diff, compared
from onnxlint_q.workflow.results import LayerRow, ModelResult, Port


def models(name: str) -> tuple[ModelResult, ...]:
    found: tuple[ModelResult, ...] = getattr(samples, name)().models
    return found


def changes() -> Diff:
    """With something of every kind: verdicts, layers, findings and interface."""
    (old,), (new,) = models("chained"), models("costly")
    (worse,) = models("small")
    return compared(
        replace(
            worse, path="release/1.0/net.onnx", layers=worse.layers[:-1], ports_in=(Port("x", "float32", "[1, 3]"),)
        ),
        replace(
            worse,
            path="release/1.1/net.onnx",
            sha256="0" * 64,
            schemes=new.schemes,
            findings=old.findings,
            layers=tuple(map(lowered, worse.layers)),
            ports_in=(Port("x", "float32", "[1, 4]"),),
        ),
    )


def lowered(row: LayerRow) -> LayerRow:
    """A layer that costs the output 9 dB more."""
    forecast = {
        scheme: replace(told, weight_sqnr_db=told.weight_sqnr_db and told.weight_sqnr_db - 9)
        for scheme, told in (row.forecast or {}).items()
    }
    return replace(row, forecast=forecast, probe=None, measured=None)


@pytest.mark.parametrize("name", ["small", "large", "quantised", "costly", "nothing"])
@pytest.mark.parametrize("report_format", FORMATS)
def test_every_pair_is_told(name: str, report_format: ReportFormat) -> None:
    for old in (*models("small"), *models(name)):
        for new in models(name):
            text = render(compared(old, new, 3.0), report_format)
            assert text.endswith("\n") and text == render(compared(old, new, 3.0), report_format)


def test_hostile_names_are_shown_safely() -> None:
    (plain,) = models("small")
    for model in models("hostile"):
        ports = (Port(model.path, "float", f"[{model.path}]"),)
        changes = compared(plain, replace(model, ports_in=ports))
        document = json.loads(render(changes, ReportFormat.JSON))
        assert document["interface"][0]["change"] == "new"
        text = render(changes, ReportFormat.FULL, Look(verbose=True))
        assert all(char.isprintable() or char == "\n" for char in text) and max(map(len, text.splitlines())) <= 100


def quietly(changes: Diff) -> str:
    return render(changes, ReportFormat.FULL, Look(quiet=True))


def test_quiet_tells_the_schemes_that_lost_too_much_and_nothing_else() -> None:
    (old,) = models("small")
    worse = replace(old.schemes[0], output_sqnr_db=(old.schemes[0].output_sqnr_db or 0.0) - 3.2, outputs=())
    found = compared(old, replace(old, path="new.onnx", schemes=(worse, *old.schemes[1:])), 3.0)
    assert quietly(found) == f"new.onnx: {worse.scheme} -3.2 dB, over --max-loss 3\n"
    assert quietly(replace(found, max_loss_db=3.3)) == quietly(replace(found, max_loss_db=None)) == ""
    unknown = quietly(replace(found, schemes=()))
    assert unknown == "new.onnx: no scheme has a figure in both releases that rests on the same\n"


def test_the_same_file_is_said_to_be_the_same() -> None:
    (model,) = models("small")
    text = render(compared(model, model), ReportFormat.FULL)
    assert "Both are the same file, byte for byte." in text and "New findings" not in text


def test_findings_of_either_release_are_listed_by_rule() -> None:
    (model,) = models("small")
    bare = replace(model, findings=())
    gone, new = (render(compared(*pair), ReportFormat.FULL) for pair in ((model, bare), (bare, model)))
    assert "Gone findings: 2" in gone and "New findings" not in gone
    assert "New findings: 2" in new and "QW001 unequal-channel-ranges" in new and "Gone findings" not in new
    assert new.splitlines()[-1].startswith("2 new findings, 0 gone; the most that a scheme lost is 0.0 dB")


def test_a_page_tells_what_changed_without_folders_or_requests() -> None:
    found = changes()
    text = render(found, ReportFormat.HTML)
    assert "release/" not in text and "release/1.1/net.onnx" in render(found, ReportFormat.HTML, Look(paths=True))
    told = " ".join(re.sub(r"<[^>]+>", " ", text.partition("<body>")[2].partition("<script")[0]).split())
    for said in ("Verdicts", "New findings", "Gone findings", "Interface", "What got worse, by layer", "New layers"):
        assert said in told, said
    assert "float32 [1, 3] → float32 [1, 4]" in told and "Old release" in told and found.new.sha256 in told
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert data["schemes"].keys() == {one.scheme for one in found.schemes}


def test_a_page_of_hostile_names_holds_none_as_markup() -> None:
    (plain,) = models("small")
    for model in models("hostile"):
        text = render(compared(plain, model), ReportFormat.HTML)
        assert "<script>alert" not in text and "<img src=x" not in text
