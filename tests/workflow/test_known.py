"""What a team knows of its models fails no build, and what is new does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from known_cases import renamed

from onnxlint_q import UsageError
from onnxlint_q import lint as api_lint
from onnxlint_q.finding import Suppressor
from onnxlint_q.judge.config import Overrides
from onnxlint_q.workflow.check import check, plan
from onnxlint_q.workflow.record import CheckRequest
from onnxlint_q.workflow.results import ModelResult, Run

NETWORK = "depthwise_spread.onnx"
BLOCKS = ("block1_depthwise_bn", "block2_depthwise_bn", "block3_depthwise_bn")


def linted(*paths: Path, **overrides: object) -> Run:
    return check(plan(paths, Overrides(**overrides)), CheckRequest())  # type: ignore[arg-type]


def only(run: Run) -> ModelResult:
    (model,) = run.models
    return model


def told(model: ModelResult) -> set[tuple[str, str]]:
    return {(finding.code, finding.location.label) for finding in model.findings}


@pytest.fixture
def repository(models: Path, tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    shutil.copy(models / NETWORK, tmp_path / "models" / "a.onnx")
    return tmp_path


def configured(repository: Path, text: str) -> Path:
    (repository / "onnxlint-q.toml").write_text(text)
    return repository / "models" / "a.onnx"


def test_the_configuration_suppresses_by_rule_node_and_model(repository: Path) -> None:
    path = configured(
        repository,
        '[[suppress]]\ncode = "QB002"\nnode = "block2_*"\nmodel = "models/*"\nreason = "accepted until 2.1"\n',
    )
    model = only(linted(path))
    (known,) = model.suppressed
    assert known.location.label == BLOCKS[1] and known.suppression is not None
    assert (known.suppression.by, known.suppression.reason) == (Suppressor.CONFIGURATION, "accepted until 2.1")
    assert told(model) == {("QB002", BLOCKS[0]), ("QB002", BLOCKS[2])} and model.fails


def test_what_is_suppressed_fails_no_build_and_a_verdict_still_does(repository: Path) -> None:
    path = configured(repository, '[[suppress]]\ncode = "QB002"\nreason = "x"\n')
    model = only(linted(path))
    assert len(model.suppressed) == 3 and not model.findings and model.fails
    assert not only(linted(path, fail_on_verdict="none")).fails


def test_a_suppression_that_suppresses_nothing_is_an_info(repository: Path) -> None:
    path = configured(repository, '[[suppress]]\ncode = "QB001"\nnode = "gone"\nreason = "x"\n')
    model = only(linted(path))
    unused = next(finding for finding in model.findings if finding.code == "QX005")
    assert unused.message == "QB001 in [[suppress]] 1 of onnxlint-q.toml suppresses nothing."
    assert unused.severity == "info" and model.rules[-1].about_run
    # A rule that did not run, or that needs data, could not tell.
    assert "QX005" not in {code for code, _ in told(only(linted(path, ignore=("QB001",))))}
    configured(repository, '[[suppress]]\ncode = "QD001"\nreason = "x"\n')
    assert "QX005" not in {code for code, _ in told(only(linted(path)))}


def test_an_entry_is_used_if_any_model_of_the_run_uses_it(repository: Path, models: Path) -> None:
    first = configured(
        repository,
        '[[suppress]]\ncode = "QB002"\nreason = "x"\n[[suppress]]\ncode = "QB001"\nnode = "gone"\nreason = "y"\n',
    )
    other = Path(shutil.copy(models / "healthy_resnet.onnx", repository / "models" / "b.onnx"))
    unused = [finding.location.output for model in linted(first, other).models for finding in model.findings]
    assert unused == ["[[suppress]] 2 of onnxlint-q.toml"], "told once, and the first is used"


def test_the_model_suppresses_unless_the_configuration_says_no(repository: Path) -> None:
    path = configured(repository, "")
    proto = onnx.load(path)
    (node,) = (node for node in proto.graph.node if node.name == BLOCKS[0])
    entry = node.metadata_props.add()
    entry.key, entry.value = "pkg.onnxlint_q.ignore", "near-zero-variance: these channels feed nothing\nQX001: x\nQB001"
    onnx.save(proto, path)
    model = only(linted(path))
    (known,) = model.suppressed
    assert known.suppression is not None and known.suppression.where == f"the metadata of {BLOCKS[0]!r}"
    assert {finding.message for finding in model.findings if finding.code == "QX005"} == {
        f"'QX001' in the metadata of {BLOCKS[0]!r} is no rule.",
        f"QB001 in the metadata of {BLOCKS[0]!r} has no reason, so it suppresses nothing.",
    }
    assert not only(linted(configured(repository, "suppress-in-model = false\n"))).suppressed


def lint(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxlint_q", "models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=repository, check=False, timeout=120)


def test_a_baseline_passes_what_was_there_and_fails_what_is_new(repository: Path) -> None:
    path = configured(repository, 'baseline = "known.json"\n')
    done = lint(repository)
    assert done.returncode == 2 and "known.json: there is no such file; make it with --write-baseline" in done.stderr
    done = lint(repository, "--write-baseline", "known.json")
    assert (done.returncode, done.stderr) == (0, "wrote known.json: 3 findings and 1 verdict of 1 model\n")
    baseline = (repository / "known.json").read_text()
    done = lint(repository, "--output-format", "json")
    (model,) = json.loads(done.stdout)["models"]
    assert done.returncode == 0 and not model["findings"] and model["accepted_verdicts"] == ["int8-per-tensor"]
    assert [one["suppression"]["by"] for one in model["suppressed"]] == ["baseline"] * 3

    renamed(path)
    assert lint(repository, "--output-format", "concise").returncode == 0, "exported again"
    document = json.loads(baseline)
    held = document["models"]["models/a.onnx"]
    del held["findings"][0]
    (repository / "known.json").write_text(json.dumps(document))
    assert lint(repository).returncode == 1, "a finding is new"
    held["findings"].append({"code": "QB002", "node": "gone", "fingerprint": "0", "structure": "1"})
    (repository / "known.json").write_text(json.dumps(document))
    unused = json.loads(lint(repository, "--output-format", "json").stdout)["models"][0]["findings"]
    assert "1 of 3 lines for this model in known.json suppress nothing." in {one["message"] for one in unused}


def test_pruning_takes_out_what_is_gone_and_keeps_what_the_run_cannot_tell(repository: Path) -> None:
    configured(repository, 'baseline = "known.json"\n')
    lint(repository, "--write-baseline", "known.json")
    path = repository / "known.json"
    written = path.read_text()
    document = json.loads(written)
    held = document["models"]["models/a.onnx"]
    gone = {"code": "QB002", "node": "gone", "fingerprint": "0", "structure": "1"}
    held["findings"] += [gone, gone | {"code": "QD001"}]
    held["verdicts"] |= {"int8-per-channel": "degrades", "fp8": "breaks"}
    document["models"] |= {"models/removed.onnx": held, "onnxlint-q.toml": held}
    path.write_text(json.dumps(document))
    done = lint(repository, "--prune-baseline")
    assert done.returncode == 0, done.stderr
    pruned = json.loads(path.read_text())["models"]
    assert set(pruned) == {"models/a.onnx", "onnxlint-q.toml"}, "a model whose file is gone has no lines"
    codes = [line["code"] for line in pruned["models/a.onnx"]["findings"]]
    assert codes == ["QB002"] * 3 + ["QD001"] and pruned["onnxlint-q.toml"]["findings"] == held["findings"]
    assert pruned["models/a.onnx"]["verdicts"] == {"fp8": "breaks", "int8-per-tensor": "breaks"}


def test_a_run_without_data_prunes_nothing_that_data_showed(repository: Path) -> None:
    configured(repository, 'baseline = "known.json"\n')
    held = {
        "calibrated": True,
        "verdicts": {},
        "findings": [{"code": "QB002", "node": "gone", "fingerprint": "0", "structure": "1"}],
    }
    (repository / "known.json").write_text(json.dumps({"version": 1, "models": {"models/a.onnx": held}}))
    lint(repository, "--prune-baseline")
    assert (
        json.loads((repository / "known.json").read_text())["models"]["models/a.onnx"]["findings"] == held["findings"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--write-baseline", "b.json", "--baseline", "c.json"], "--baseline and --write-baseline contradict"),
        (["--write-baseline", "b.json", "--prune-baseline"], "--write-baseline and --prune-baseline contradict"),
        (["--prune-baseline"], "--prune-baseline: there is no baseline; name one with --baseline"),
        (["--write-baseline", "models/a.onnx"], "would replace a file of this run, models/a.onnx"),
        (["--write-baseline", "b.json", "--html", "b.json"], "two reports go to the file b.json"),
        (["--write-baseline", "none/b.json"], "cannot write"),
    ],
)
def test_baselines_that_cannot_be_written(repository: Path, arguments: list[str], message: str) -> None:
    done = lint(repository, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not (repository / "b.json").exists()


def test_a_program_can_name_a_baseline(repository: Path) -> None:
    path = repository / "models" / "a.onnx"
    before = api_lint(path)
    assert before.fails and before.findings
    assert lint(repository, "--write-baseline", "known.json").returncode == 0
    known = api_lint(path, baseline=repository / "known.json")
    assert not known.fails and known.accepted == ("int8-per-tensor",)
    assert {finding.code for finding in known.suppressed} == {finding.code for finding in before.findings}
    with pytest.raises(UsageError, match=r"gone.json: there is no such file"):
        api_lint(path, baseline=repository / "gone.json")
