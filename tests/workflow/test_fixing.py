"""Findings that name the rewrite that cures them: untried, tried by itself, and as `fix` was seen to do it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from mask_cases import WAYS, network, samples

import onnxlint_q
from onnxlint_q import ModelResult
from onnxlint_q.finding import Finding, Fixing
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.report.services.sarif import render as sarif
from onnxlint_q.rewrite.table import REWRITES
from onnxlint_q.workflow.results import Run


def of(result: ModelResult, code: str) -> Finding:
    return next(finding for finding in result.findings if finding.code == code)


def cure(result: ModelResult, code: str) -> dict[str, object]:
    findings = json.loads(onnxlint_q.render(result, "json"))["models"][0]["findings"]
    found: dict[str, object] = next(finding["cure"] for finding in findings if finding["code"] == code)
    return found


def test_rules_name_rewrites_that_there_are() -> None:
    known = {rewrite.name for rewrite in REWRITES}
    named = {name for entry in load_rules() for name in entry.rule.rewrites}
    assert named and named <= known


def test_from_the_file_alone_it_is_untried(models: Path) -> None:
    result = onnxlint_q.lint(models / "near_zero_variance.onnx")
    finding = of(result, "QB002")
    assert finding.advice.endswith("`onnxlint-q fix` applies this (constant-channels, untried).")
    told = cure(result, "QB002")
    assert (told["rewrite"], told["tried"], told["before_db"]) == ("constant-channels", False, None)
    text = onnxlint_q.render(result, "full")
    assert "it applies constant-channels (untried)" in text and "onnxlint-q fix near_zero_variance.onnx" in text
    assert "applies this (constant-channels, untried)" in sarif(Run((result,)))
    assert "applies this (constant-channels, untried)" in onnxlint_q.render(result, "html")


def test_a_preview_gives_the_figures_of_the_whole_model(models: Path, calibration: Path) -> None:
    result = onnxlint_q.lint(models / "near_zero_variance.onnx", calibration, fix_preview=True)
    fixing, preview = of(result, "QB002").fixing, result.preview
    assert fixing is not None and preview is not None and fixing.tried and "constant-channels" in fixing.rewrites
    before, after = (
        next(one for one in results if one.scheme == "int8-per-tensor") for results in (preview.before, preview.after)
    )
    assert (fixing.before_db, fixing.after_db) == (before.output_sqnr_db, after.output_sqnr_db)
    assert f"{fixing.before_db:.1f} → {fixing.after_db:.1f} dB (tried)." in of(result, "QB002").advice


def test_a_remedy_that_was_tried_by_itself_says_so_once(tmp_path: Path) -> None:
    steps, constants = WAYS["computed"]
    path = tmp_path / "masked.onnx"
    onnx.save(network(steps, **constants), path)
    finding = of(onnxlint_q.lint(path, samples(48)), "QA003")
    assert finding.tried is not None and finding.fixing is not None and finding.fixing.tried
    assert finding.fixing.before_db == finding.tried.before_db
    assert finding.advice.endswith("`onnxlint-q fix` applies this (mask-values, tried).")
    assert finding.advice.count("→") == 1


def test_a_cure_that_was_tried_and_does_not_help_is_not_advised(models: Path, calibration: Path) -> None:
    """Nor is one whose rewrite finds no place in the model."""
    result = onnxlint_q.lint(models / "outlier_gamma.onnx", calibration)
    for finding in result.findings:
        if finding.fixing is not None:
            assert "constant-channels" not in finding.fixing.rewrites or finding.cure is not None


def test_what_is_too_slow_to_look_for_is_only_tried(models: Path) -> None:
    finding = of(onnxlint_q.lint(models / "opset11.onnx"), "QG001")
    assert finding.fixing == Fixing(("opset",), found=False)
    assert finding.advice.endswith("`onnxlint-q fix` tries opset.")


def test_nodes_without_names(models: Path) -> None:
    finding = of(onnxlint_q.lint(models / "unnamed_nodes.onnx"), "QG002")
    assert finding.fixing is not None and finding.fixing.rewrites == ("node-names",) and finding.fixing.found


def test_quantised_files_have_nothing_to_fix(models: Path) -> None:
    result = onnxlint_q.lint(models / "qdq_per_tensor_depthwise.onnx")
    assert result.findings and all(finding.fixing is None for finding in result.findings)


@pytest.mark.parametrize(
    ("fixing", "said"),
    [
        (Fixing(("a", "b")), "`onnxlint-q fix` applies this (a, b, untried)."),
        (Fixing(("a",), option="--unsafe"), "`onnxlint-q fix --unsafe` applies this (a, untried)."),
        (
            Fixing(("a",), tried=True, before_db=-9.6, after_db=25.0),
            "`onnxlint-q fix` applies this (a): -9.6 → 25.0 dB (tried).",
        ),
        (Fixing(("a",), tried=True, before_db=3.0), "`onnxlint-q fix` applies this (a): 3.0 → no noise (tried)."),
        (Fixing(("a",), found=False), "`onnxlint-q fix` tries a."),
    ],
)
def test_the_sentence(fixing: Fixing, said: str) -> None:
    assert fixing.said() == said
