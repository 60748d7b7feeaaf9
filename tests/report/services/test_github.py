"""Annotations, read as the runner of GitHub reads a log: a line that starts with `::` is a command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import samples
from samples import CHANNEL, TENSOR

from onnxlint_q.finding import Claim, Evidence, Severity, Subject
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.report.digest import summary
from onnxlint_q.report.services.github import SHOWN
from onnxlint_q.workflow.results import Basis, Failure, Run, SchemeResult, Verdict

ANNOTATIONS = {"error", "warning", "notice"}
LONGEST_MESSAGE = 4096
"""Characters of a message that the runner keeps."""


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict[str, str]
    message: str


def unescaped(text: str, *codes: str) -> str:
    """The runner undoes `%25` last, so that what was `%0A` in a name stays that."""
    for code in (*codes, "%0D", "%0A", "%25"):
        text = text.replace(code, chr(int(code[1:], 16)))
    return text


def commands(log: str) -> tuple[list[Command], list[str]]:
    """The commands of a log and its other lines, by the rules of actions/runner (`ActionCommand.TryParseV2`)."""
    found, others = [], []
    for line in log.splitlines():  # of any kind, more than the runner knows
        text = line.strip()
        end = text.find("::", 2)
        if not text.startswith("::") or end < 0:
            others.append(line)
            continue
        name, _, told = text[2:end].partition(" ")
        pairs = [pair.partition("=") for pair in told.strip().split(",") if pair]
        properties = {key.strip(): unescaped(value, "%3A", "%2C") for key, _, value in pairs if value}
        found.append(Command(name, properties, unescaped(text[end + 2 :])))
    return found, others


def read(run: Run) -> tuple[list[Command], list[str]]:
    return commands(render(run, ReportFormat.GITHUB))


def test_a_run_as_annotations() -> None:
    found, others = read(samples.small())
    place = {"file": "small.onnx"}
    assert [(one.name, one.properties) for one in found] == [
        ("error", {**place, "title": "int8-per-tensor breaks"}),
        ("error", {**place, "title": "QW001 unequal-channel-ranges"}),
        ("warning", {**place, "title": "int8-per-channel degrades"}),
        ("warning", {**place, "title": "QG004 unfolded-batch-norm"}),
    ]
    broken, ranges, *_ = (one.message for one in found)
    assert broken == (
        "int8-per-tensor breaks: -4.0 dB at the output, top-1 agrees with float on 5.2 % of samples; "
        "measured on 16 held-out samples."
    )
    assert ranges.splitlines() == [
        "dw1 (Conv) → dw1/bn_out: The channels' ranges differ by a factor of 214.7; one int8 scale leaves 27 of 96 "
        "fewer than 4 codes.",
        "Claim: with only the weight of dw1/bn_out quantised as int8-per-tensor, the output falls below 10.0 dB. "
        "Measured: 4.7 dB.",
        "Quantise weights per channel, or equalise the two layers before.",
        "More: onnxlint-q rule QW001",
    ]
    assert others == [summary(samples.small())]


def test_a_comparison_is_told_by_the_same_file() -> None:
    told = render_comparison(samples.compared(samples.small()), ReportFormat.GITHUB)
    assert told == render(samples.small(), ReportFormat.GITHUB)


def test_what_was_tried_stands_with_the_verdict() -> None:
    found, _ = read(samples.remedied())
    (verdict,) = (one for one in found if one.properties["title"] == f"{TENSOR} breaks")
    figures, finer, call, coarser, other_call = verdict.message.splitlines()
    assert figures.startswith("int8-per-tensor breaks: ") and finer.startswith(
        "Give every channel its own scale instead of int8-per-tensor: "
    )
    assert call == "quantize_static(..., per_channel=True)"
    assert ", still breaks. " in coarser
    assert other_call == "quantize_static(..., nodes_to_exclude=['stem/Conv', 'stem/Relu'])"
    (model,) = samples.remedied().models
    many = tuple(replace(remedy, snippet=f"quantize_static({list(range(1000))})") for remedy in model.remedies)
    found, _ = read(Run((replace(model, remedies=many),)))
    assert found[0].message.count("The call is long; the html and json reports have it.") == len(many)


def test_one_damage_is_one_annotation() -> None:
    (model,) = samples.small().models
    first = samples.spread("dw1", None, Evidence.UNTESTED)
    second = replace(first, code="QB001", name="outlier-gamma", severity=Severity.WARNING)
    other = replace(second, claim=Claim(Subject.WEIGHT, "elsewhere", TENSOR))
    found, _ = read(Run((replace(model, schemes=(), findings=(second, first, other)),)))
    assert [(one.name, one.properties["title"]) for one in found] == [
        ("error", "QB001 outlier-gamma"),
        ("warning", "QB001 outlier-gamma"),
    ]
    assert found[0].message.endswith("\nThe same damage: QW001 unequal-channel-ranges.\nMore: onnxlint-q rule QB001")


@pytest.mark.parametrize(
    ("verdict", "command"), [(Verdict.BREAKS, "error"), (Verdict.DEGRADES, "warning"), (None, "notice")]
)
def test_a_verdict_is_seen_where_nothing_was_found(verdict: Verdict | None, command: str) -> None:
    run = samples.found_nothing(verdict)
    found, _ = read(run)
    assert found and {one.name for one in found} == {command}
    assert len(found) == sum(result.verdict is verdict for model in run.models for result in model.schemes)


def test_what_is_known_is_counted_and_no_annotation() -> None:
    (model,) = samples.small().models
    known = replace(model, findings=(), suppressed=model.findings[:2], accepted=(TENSOR, CHANNEL))
    found, others = read(Run((known,)))
    assert found == [] and others == ["no findings in 1 model, 2 suppressed, but known to break under int8-per-tensor"]


def test_a_model_that_survives_is_a_line_and_no_annotation() -> None:
    (model,) = samples.small().models
    run = Run((replace(model, schemes=(SchemeResult(CHANNEL, Verdict.SURVIVES, 30.0, Basis.PROBE),), findings=()),))
    assert read(run) == ([], ["no findings in 1 model"])


def test_a_model_that_could_not_be_linted_is_an_error() -> None:
    found, others = read(samples.empty())
    assert [(one.name, one.properties["file"]) for one in found] == [("error", "broken.onnx")]
    assert found[0].message == "broken.onnx: not an ONNX file; export it again"
    assert others == ["no findings in 0 models, 1 model could not be linted"]


def test_worst_first_and_the_verdicts_first_of_all() -> None:
    (model,) = samples.small().models
    second = replace(model, path="other.onnx")
    found, _ = read(Run((model, second), (Failure("broken.onnx", "broken.onnx: empty"),)))
    names = [one.name for one in found]
    assert names == sorted(names, key=["error", "warning", "notice"].index)
    titles = [one.properties["title"] for one in found if one.name == "error"]
    assert titles == [f"{TENSOR} breaks"] * 2 + ["could not be linted"] + ["QW001 unequal-channel-ranges"] * 2


@pytest.mark.parametrize("more", [0, 1])
def test_that_github_leaves_some_out_is_the_first_notice(more: int) -> None:
    (model,) = samples.small().models
    warnings = tuple(samples.static(f"bn{i}") for i in range(SHOWN + more))
    notices = tuple(samples.static(f"info{i}", Severity.INFO) for i in range(3))
    found, _ = read(Run((replace(model, schemes=(), findings=(*warnings, *notices)),)))
    assert len(found) == len(warnings) + len(notices) + more
    told = next(one for one in found if one.name == "notice")
    assert ("more than GitHub shows" in told.properties["title"]) is bool(more)
    if more:
        assert told.message.startswith(f"There are {SHOWN + 1} warnings, 3 notices. GitHub shows 10 of each kind;")


def test_hostile_names_start_no_command_and_end_no_property() -> None:
    (model,) = samples.small().models
    finding = samples.static("x")
    attack = "a,title=x::y\r\n::add-mask::secret%0A::stop-commands::\u2028::error::\x85::error::z"
    where = replace(finding.location, node=attack, output="")
    hostile = replace(finding, location=where, message=attack, remedy=attack, name=attack)
    found, others = read(Run((replace(model, path=attack, findings=(hostile,)),)))
    assert len(found) == 3 and len(others) == 1 and {one.name for one in found} <= ANNOTATIONS
    assert all(set(one.properties) == {"file", "title"} for one in found)
    (told,) = (one for one in found if "QG004" in one.properties["title"])
    assert told.properties["file"].startswith("a,title=x::y\\r\\n::add-mask::secret%0A::stop-commands::")
    assert told.message.splitlines()[1].startswith("a,title=x::y\\r\\n::add-mask::secret%0A::stop-commands::")


def test_every_attack_is_shown_and_bounded() -> None:
    run = samples.hostile()
    long = replace(samples.static("n" * 1_000_000), message="m" * 1_000_000, remedy="r" * 1_000_000)
    log = render(replace(run, models=(*run.models, replace(run.models[0], findings=(long,)))), ReportFormat.GITHUB)
    log.encode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in log)
    found, others = commands(log)
    assert len(others) == 1 and {one.name for one in found} <= ANNOTATIONS
    assert max(len(one.message) for one in found) < LONGEST_MESSAGE


def test_files_are_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (model,) = samples.small().models
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "inside")
    elsewhere = tmp_path.parent / "m.onnx"
    for typed, seen in (
        (tmp_path / "a, b" / "m:1.onnx", "a, b/m:1.onnx"),
        (tmp_path / "link" / "m.onnx", "link/m.onnx"),
        ("./inside//m.onnx", "inside/m.onnx"),
        ("../m.onnx", "../m.onnx"),
        (elsewhere, str(elsewhere)),
    ):
        found, _ = read(Run((replace(model, path=str(typed)),)))
        assert {one.properties["file"] for one in found} == {seen}
    monkeypatch.chdir(tmp_path / "link")
    found, _ = read(Run((replace(model, path=str(tmp_path / "link" / "m.onnx")),)))
    assert {one.properties["file"] for one in found} == {"m.onnx"}
