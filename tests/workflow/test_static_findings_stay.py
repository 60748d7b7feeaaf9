"""What data adds never takes a true static finding away."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxlint_q import Evidence, Finding, Severity, lint
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.workflow.judging import judge

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
FILES = sorted(path.name for path in MODELS.glob("*.onnx") if path.name != "newer_opset.onnx")


def _places(finding: Finding) -> set[tuple[str, str]]:
    return {(where.graph, where.output) for where in (finding.location, *finding.places)}


def _says(finding: Finding, static: Finding) -> bool:
    """Whether a finding tells the same fault of the same place."""
    return static.code in {finding.code, *finding.also} and bool(_places(finding) & _places(static))


@pytest.mark.parametrize("name", FILES)
def test_a_run_confirms_a_static_finding_refutes_it_or_leaves_it(name: str) -> None:
    rules = [entry.rule() for entry in load_rules()]
    told_at_once = judge(facts_of(read_model(MODELS / name)), rules, Config())
    static = [one for one in told_at_once if one.severity is not Severity.INFO]
    if not static:
        pytest.skip("nothing at warning or above without data")
    told = lint(MODELS / name, "random").findings
    for finding in static:
        same = [other for other in told if _says(other, finding)]
        assert same, f"{finding.code} is gone: {finding.message}"
        if all(other.evidence is Evidence.REFUTED for other in same):
            assert all(other.measured_db is not None for other in same), "refuted without a run that tests it"
