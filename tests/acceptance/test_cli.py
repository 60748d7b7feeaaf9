"""Exit codes, streams and files of real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import onnx.parser
import pytest

ROOT = Path(__file__).parents[2]
HEALTHY, BROKEN_NET = "healthy_resnet.onnx", "depthwise_spread.onnx"


def lint(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxlint_q", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=120)


def test_exit_codes_follow_what_was_found(models: Path) -> None:
    assert lint(models / HEALTHY).returncode == 0
    assert lint(models / BROKEN_NET).returncode == 1
    assert lint(models / BROKEN_NET, "--exit-zero").returncode == 0
    # The model breaks under one of the schemes, whatever findings say.
    for severity in ("none", "error"):
        assert lint(models / BROKEN_NET, "--fail-on", severity).returncode == 1
        assert lint(models / BROKEN_NET, "--fail-on", severity, "--fail-on-verdict", "none").returncode == 0
    survives = ("--fail-on", "error", "--scheme", "int8-per-channel")
    assert lint(models / BROKEN_NET, *survives).returncode == 0
    assert lint(models / BROKEN_NET, *survives, "--fail-on-verdict", "degrades").returncode == 0
    assert lint(models / "nan_weights.onnx", "--fail-on", "error").returncode == 1


def test_every_broken_file_is_one_line_and_no_report(broken: Path, tmp_path: Path) -> None:
    paths = sorted(broken.glob("*.onnx"))
    done = lint(*paths, "--html", tmp_path / "report.html")
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == len(paths) >= 15
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(f"onnxlint-q: error: {path}: ")
    assert not list(tmp_path.iterdir())


def test_programs_are_told_that_no_model_could_be_linted(broken: Path, tmp_path: Path) -> None:
    path, document, code_scanning = broken / "cyclic.onnx", tmp_path / "r.json", tmp_path / "r.sarif"
    formats = ("github", f"json={document}", f"sarif={code_scanning}", f"html={tmp_path / 'r.html'}")
    done = lint(path, *(word for form in formats for word in ("--output-format", form)))
    assert done.returncode == 2 and done.stderr.startswith(f"onnxlint-q: error: {path}: ")
    assert done.stdout.startswith("::error file=") and done.stdout.count("\n") == 2
    assert [failure["path"] for failure in json.loads(document.read_text())["failures"]] == [str(path)]
    (run,) = json.loads(code_scanning.read_text())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert {entry.name for entry in tmp_path.iterdir()} == {"r.json", "r.sarif"}


def test_a_device_that_is_no_model_is_told_as_such() -> None:
    done = lint("/dev/null")
    assert done.returncode == 2 and "/dev/null: not a regular file" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for arguments in ((), ("inspect",), ("fix", "--diff")):
        done = lint(*arguments, tmp_path / "pipe.onnx")
        assert done.returncode == 2 and "pipe.onnx: not a regular file" in done.stderr


def test_no_output_replaces_the_configuration(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / HEALTHY, tmp_path / "m.onnx")
    settings = tmp_path / "onnxlint-q.toml"
    settings.write_text('fail-on = "none"\n')
    for command in (
        ("fix", "m.onnx", "-o", settings.name),
        ("fix", "m.onnx", "-o", "o.onnx", "--html", settings.name),
        ("fix", "m.onnx", "-o", "o.onnx", "--html", "o.onnx.data"),
        ("quantize", "m.onnx", "-o", settings.name, "--calibrate", "random"),
        ("m.onnx", "--html", settings.name),
    ):
        done = lint(*command, cwd=tmp_path)
        assert done.returncode == 2 and "would replace a file of this run" in done.stderr
    assert settings.read_text() == 'fail-on = "none"\n' and len(list(tmp_path.iterdir())) == 2


def test_a_broken_file_does_not_stop_the_others(models: Path, broken: Path, tmp_path: Path) -> None:
    done = lint(broken / "cyclic.onnx", models / HEALTHY, "--output-format", f"json={tmp_path / 'r.json'}")
    report = json.loads((tmp_path / "r.json").read_text())
    assert done.returncode == 2
    assert [Path(m["path"]).name for m in report["models"]] == [HEALTHY]
    assert "cyclic" in done.stderr


def test_a_folder_is_searched_and_an_empty_one_is_an_error(models: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert "holds no .onnx files" in lint(tmp_path).stderr
    shutil.copy(models / HEALTHY, tmp_path / "deep" / "er" / "a.onnx")
    done = lint(tmp_path, "--output-format", "json")
    assert [Path(m["path"]).name for m in json.loads(done.stdout)["models"]] == ["a.onnx"]


def test_several_reports_from_one_run(models: Path, calibration: Path, tmp_path: Path) -> None:
    html, document = tmp_path / "r.html", tmp_path / "r.json"
    done = lint(
        models / BROKEN_NET,
        "--calibrate",
        calibration,
        "--html",
        html,
        "--output-format",
        f"json={document}",
        "--samples",
        "8",
    )
    model = json.loads(document.read_text())["models"][0]
    assert done.returncode == 1 and "int8-per-tensor" in done.stdout
    assert model["schemes"]["int8-per-tensor"]["verdict"] == "breaks"
    assert model["schemes"]["int8-per-channel"]["verdict"] != "breaks"
    assert model["schemes"]["int8-per-tensor"]["basis"] == "measured"
    assert {f["evidence"] for f in model["findings"]} >= {"confirmed"}
    assert html.read_text().lstrip().lower().startswith("<!doctype html>")


def test_the_sensitivity_table_is_in_every_report(models: Path, calibration: Path, tmp_path: Path) -> None:
    document, page = tmp_path / "r.json", tmp_path / "r.html"
    reports = ("--html", page, "--output-format", f"json={document}", "--output-format", "full")
    done = lint(models / HEALTHY, "--calibrate", calibration, "--samples", "4", "--measure", "layers", "-v", *reports)
    assert done.returncode == 1  # four samples are too few to ship
    for row in json.loads(document.read_text())["models"][0]["layers"]:
        for scheme in ("int8-per-tensor", "int8-per-channel"):
            said = row["measured"][scheme]
            # Two kinds of noise are more than the worse of the two, but for what chance cancels.
            assert said["sqnr_db"] < min(said["weight_sqnr_db"], said["activation_sqnr_db"]) + 1
        assert row["measured"]["int8-per-tensor"]["activation_sqnr_db"] == said["activation_sqnr_db"]
    header = next(line for line in done.stdout.splitlines() if line.split()[:2] == ["layer", "range"])
    assert "both" in done.stdout and len(header) <= 100
    assert "output SQNR, this layer&#39;s result alone quantised" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheme", "int3"], "--scheme 'int3': choose from int8-per-tensor, int8-per-channel"),
        (["--output-format", "pdf"], "--output-format 'pdf': choose from full, concise, json, json-lines, html"),
        (["--output-format", "json", "--output-format", "html"], "only one report can go to standard output"),
        (["--verbose", "--output-format", "json"], "--verbose is for the full report"),
        (["--calibrate", "nowhere.npz"], "nowhere.npz: no such file or folder"),
        (["--preprocess", "tf"], "--preprocess has no effect without data; give it with --calibrate"),
        (["--calibrate", "random", "--crop", "9"], "--crop has no effect on --calibrate random, which is no folder"),
        (["--fail-on-verdict", "survives"], "--fail-on-verdict 'survives' is not one of breaks, degrades, none"),
        (["--preprocess", "vgg"], "preprocessing 'vgg' is not one of imagenet, tf, unit, raw"),
        (["--mean", "a,b"], "--mean 'a,b': give one number"),
        (["--std", "0"], "a standard deviation cannot be zero"),
        (["--std", "-1"], "a standard deviation cannot be zero or negative"),
        (["--mean", "nan"], "--mean 'nan': give one number"),
        (["--scale", "inf"], "scale inf: give a finite factor"),
        (["--resize", "9" * 5000], "give pixels from 1 to 8192"),
        (["--html", ""], "the html report has no file name"),
        (["--html", "-", "--output-format", "json"], "only one report can go to standard output"),
        (["--html", "a", "--output-format", "json=a"], "two reports go to the file a; name another file"),
        (["--calibrate", ""], "no such file or folder"),
        (["--calibrate", "a" * 5000], "File name too long"),
        (["--config", "a" * 5000], "File name too long"),
        ([""], "a model name is empty"),
        (["a" * 5000], "File name too long"),
        (["--resize", "-3"], "--resize '-3': give pixels"),
        (["--layout", "chwn"], "layout 'chwn': choose nchw or nhwc"),
        (["--ignore", "low-depthwise-average-precison"], "--ignore 'low-depthwise-average-precison': no rule matches"),
        (["--ignore", "low-depthwise-average-precison"], "did you mean 'low-depthwise-average-precision'?"),
        (["--fail-on", "fatal"], "--fail-on 'fatal' is not one of error, warning, info, none"),
        (["--config", "no.toml"], "no.toml: no such configuration file"),
        (["--measure", "layers"], "--measure has no effect without data; give it with --calibrate"),
        (["--measure", "channels"], "--measure channels: choose `layers`"),
    ],
)
def test_wrong_options_say_what_would_be_right(models: Path, arguments: list[str], message: str) -> None:
    done = lint(models / HEALTHY, *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.parametrize("place", ["no/folder/r.html", ".", "file/r.html", "x" * 300])
def test_a_report_that_cannot_be_written_is_said_before_anything_runs(models: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    done = lint(models / HEALTHY, "--html", tmp_path / place)
    assert (done.returncode, done.stdout) == (2, "") and "cannot write" in done.stderr
    assert done.stderr.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_report_that_fails_in_the_end_is_still_seen(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    import onnxlint_q.cli.app as cli

    def full_disk(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    files = [f"json={tmp_path / 'r.json'}", f"html={tmp_path / 'r.html'}"]
    for wanted, first in (["--output-format", "concise"], f"{models / HEALTHY}: int8"), ([], f"{models / HEALTHY}\n"):
        options = [word for name in files for word in ("--output-format", name)]
        done = CliRunner().invoke(cli.app, [str(models / HEALTHY), *options, *wanted])
        assert done.exit_code == 2 and done.stdout.startswith(first)
        assert done.stderr.count("cannot write") == 2 == done.stderr.count("\n")
    assert not list(tmp_path.iterdir())


def test_configuration_is_found_beside_the_model_and_the_command_line_wins(models: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    shutil.copy(models / BROKEN_NET, model)
    (tmp_path / "onnxlint-q.toml").write_text(
        'ignore = ["QW", "QB"]\n[severity]\nunnamed-nodes = "error"\n[verdict]\nbreaks-db = 1\n'
    )
    # breaks-db = 1 changes nothing: the forecast lies below it.
    assert lint(model).returncode == 1
    assert lint(model, "--fail-on-verdict", "none").returncode == 0
    assert lint(model, "--no-config", "--fail-on-verdict", "none").returncode == 1
    assert lint(model, "--select", "QW001").returncode == 1
    shown = lint("config", "--show", model).stdout
    for line in ("ignore = QW, QB  (onnxlint-q.toml)", "verdict.breaks-db = 1  (onnxlint-q.toml)"):
        assert f"{line}\n" in shown
    assert "fail-on = warning  (default)\n" in shown


def test_all_errors_of_a_configuration_are_told_at_once(models: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    shutil.copy(models / HEALTHY, model)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.onnxlint-q]\nselct = ["QW"]\nfail-on = "high"\nignore = "QW001"\n[tool.onnxlint-q.verdict]\nbreaks = 3\n'
    )
    error = lint(model).stderr
    for part in (
        "unknown key 'selct' (did you mean 'select'?)",
        "fail-on 'high' is not one of",
        "'ignore' must be a list",
        "'breaks'",
    ):
        assert part in error
    (tmp_path / "pyproject.toml").write_text(
        "[tool.onnxlint-q.rules.low-depthwise-average-precision]\nthresold = 1\n[tool.onnxlint-q.rules.QW999]\na = 1\n"
    )
    error = lint(model).stderr
    assert "has no option 'thresold'" in error and "unknown rule 'QW999'" in error


def test_rule_options_change_the_findings(models: Path, tmp_path: Path) -> None:
    from onnxlint_q.judge.registry import load_rules

    rule = next(entry.rule for entry in load_rules() if entry.rule.code == "QW001")
    name = next(name for name, default, _, _ in rule.options() if "precision" in name and isinstance(default, float))
    config = tmp_path / "strict.toml"
    config.write_text(f"[rules.QW001]\n{name} = 0.0\n")
    plain = lint(models / BROKEN_NET, "--select", "QW001", "--output-format", "json")
    strict = lint(models / BROKEN_NET, "--select", "QW001", "--config", config, "--output-format", "json")
    assert json.loads(plain.stdout)["models"][0]["findings"] and not json.loads(strict.stdout)["models"][0]["findings"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["chek", HEALTHY], "'chek': no such command, and no such file (did you mean 'check'?)"),
        (["rul", "--all"], "'rul': no such command, and no such file (did you mean 'rule'?)"),
        (["chek.onnx"], "chek.onnx: no such file"),
        (["networks"], "networks: no such file"),
    ],
)
def test_a_mistyped_command_is_told_from_a_model_that_is_not_there(
    models: Path, typed: list[str], message: str
) -> None:
    done = lint(*typed, cwd=models)
    assert (done.returncode, done.stdout) == (2, "") and message in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_called_like_a_command_is_a_folder(models: Path, tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    shutil.copy(models / HEALTHY, tmp_path / "checks")
    assert lint("checks", cwd=tmp_path).returncode == 0


def test_the_console_script_is_the_command(models: Path) -> None:
    from importlib.metadata import entry_points

    import onnxlint_q.cli

    (script,) = entry_points(group="console_scripts", name="onnxlint-q")
    assert script.load() is onnxlint_q.cli.main


def test_data_that_cannot_be_read_is_a_finding_and_data_that_is_not_there_a_wrong_option(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    done = lint(models / HEALTHY, "--calibrate", "bad.npz", "--output-format", "concise", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    said = "--calibrate: QX004 data-unusable error [confirmed] The model was not run on the data: bad.npz: "
    assert said in done.stdout
    done = lint(models / HEALTHY, "--calibrate", "none.npz", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and "data none.npz: no such file" in done.stderr


def test_version_and_a_reader_that_leaves_early(models: Path) -> None:
    assert lint("--version").stdout.startswith("onnxlint-q ")
    command = f'"{sys.executable}" -m onnxlint_q "{models / HEALTHY}" | head -c 1 >/dev/null; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "0" and "Traceback" not in done.stderr


def test_a_report_never_replaces_what_was_read(models: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    shutil.copy(models / HEALTHY, model)
    link = tmp_path / "link.html"
    link.symlink_to(model)
    for name in (model, link):
        done = lint(model, "--html", name)
        assert done.returncode == 2 and "would replace a file of this run" in done.stderr and not done.stdout
    (tmp_path / "onnxlint-q.toml").write_text('fail-on = "error"\n')
    done = lint(model, "--html", tmp_path / "onnxlint-q.toml")
    assert done.returncode == 2 and f"{tmp_path / 'onnxlint-q.toml'}; name another file" in done.stderr
    assert (tmp_path / "onnxlint-q.toml").read_text() == 'fail-on = "error"\n'
    assert model.read_bytes() == (models / HEALTHY).read_bytes()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{broken_net} >/dev/full", 2),
        ("--version >/dev/full", 2),
        ("--help >/dev/full", 2),
        ("rule --all >/dev/full", 2),
        ("no.onnx 2>/dev/full", 2),
        ("{broken_net} >&-", 1),
        ("no.onnx 2>&-", 2),
        ("{broken_net} >&- 2>&- <&-", 1),
        ("{broken_net} --output-format html | true", 1),
        ("rule --all | true", 0),
    ],
)
def test_streams_that_are_full_closed_or_left_keep_the_exit_code(models: Path, command: str, code: int) -> None:
    arguments = command.format(broken_net=models / BROKEN_NET)
    line = f'exec 3>&2; "{sys.executable}" -m onnxlint_q {arguments}; echo "${{PIPESTATUS[0]}}" >&3'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.splitlines()[-1] == str(code) and "Traceback" not in done.stderr


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("by nothing")


def test_an_error_of_the_tool_itself_is_no_finding(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    import onnxlint_q.cli.app as cli
    from onnxlint_q.workflow import check as workflow

    monkeypatch.setattr(workflow, "lint", fail)
    done = CliRunner().invoke(cli.app, [str(models / HEALTHY)])
    told = "an error of onnxlint-q itself, ZeroDivisionError: by nothing (test_cli.py:"
    assert done.exit_code == 2 and told in done.stderr and done.stderr.count("\n") == 1
    for arguments, environment in (["--debug"], {}), ([], {"ONNXLINT_Q_DEBUG": "1"}):
        done = CliRunner(env=environment).invoke(cli.app, [str(models / HEALTHY), *arguments])
        assert done.exit_code == 2 and told in done.stderr
        assert "Traceback (most recent call last):" in done.stderr and "in fail" in done.stderr


def test_debug_says_where_a_rule_did_not_fire_and_why(models: Path) -> None:
    done = lint(models / BROKEN_NET, "--debug", "--select", "QW001,QA001", "--output-format", "json")
    flagged = {finding["location"]["node"] for finding in json.loads(done.stdout)["models"][0]["findings"]}
    assert len(flagged) == 3 and not any(node in done.stderr for node in flagged)
    lines = done.stderr.splitlines()
    assert "QW001 low-depthwise-average-precision: not at classifier (Gemm): it is not a depthwise layer" in lines
    assert (
        "QA001 heavy-tailed-activation: it needs calibration data, and there is none; give it with --calibrate" in lines
    )
    assert lint(models / BROKEN_NET, "--select", "QW001").stderr == ""


def test_rules_are_listed_by_family_and_all_of_them_without_a_word() -> None:
    everything = lint("rule").stdout
    listed, _, words = everything.partition("\n\n")
    assert everything == lint("rule", "--all").stdout and f"{listed}\n" == lint("rule", "q").stdout
    assert words.startswith("Words that `onnxlint-q rule WORD` explains:")
    family = [line for line in everything.splitlines() if line.startswith("QB")]
    assert [line.split() for line in lint("rule", "qb").stdout.splitlines()] == [line.split() for line in family]
    assert lint("rule", "qb001").stdout == lint("rule", "outlier-gamma").stdout
    assert lint("rule", "").returncode == lint("rule", "QQ").returncode == 2


def test_where_no_rule_is_left_nothing_is_clean(models: Path) -> None:
    done = lint(models / HEALTHY, "--select", "QW001", "--ignore", "QW001")
    assert (done.returncode, done.stdout) == (
        2,
        "",
    ) and "all selected rules are ignored, so none is left to run" in done.stderr


def child_of(parent: int) -> int:
    """The first process that another starts, once it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
        own = [int(word) for word in found.stdout.split()]
        if own:
            return own[0]
        time.sleep(0.1)
    raise AssertionError("no child")


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("moment", [0.0, 0.03, 0.1, 0.2, 0.4])
def test_an_interrupt_while_it_is_being_imported_is_one_line(models: Path, moment: float) -> None:
    # Python tells a traceback of its own until a line of ours runs.
    start = """
import signal, sys
from onnxlint_q.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", start, str(models / HEALTHY)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.005 + moment)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "onnxlint-q: interrupted\n") or process.returncode == 0


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "onnxlint-q: interrupted\n"), (signal.SIGTERM, 143, "onnxlint-q: terminated\n")],
)
def test_an_interrupt_stops_an_endless_model_without_a_report(
    tmp_path: Path, number: int, code: int, line: str
) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 2] x) => (float[2, 2] y) <int64 trips = {4611686018427387904}> {
            y = Loop <body = b (int64 i, bool c, float[2, 2] s) => (bool d, float[2, 2] t)
                { d = Identity(c)  t = Tanh(s) }> (trips, , x)
        }"""
    )
    onnx.save(proto, tmp_path / "endless.onnx")
    # A shell may start its background jobs with the signal ignored, and so this test.
    start = """
import signal
from onnxlint_q.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
main()
"""
    options = ["endless.onnx", "--calibrate", "random", "--html", "r.html"]
    with subprocess.Popen(
        [sys.executable, "-c", start, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        child = child_of(process.pid)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (code, "", line)
    assert not is_running(child)
    assert [path.name for path in tmp_path.iterdir()] == ["endless.onnx"]


def test_values_may_be_negative(models: Path) -> None:
    model = str(models / "qdq_coarse_input.onnx")
    forms = (
        ["--values", "-7", "7.5"],
        ["--values=-7,7.5"],
        ["--values", "-7", "--values", "7.5"],
        ["--values", "-7 7.5"],
    )
    told = [lint("inspect", *order) for form in forms for order in ([model, *form], [*form, model])]
    assert {done.returncode for done in told} == {0}
    for done in told:
        lines = done.stdout.splitlines()
        assert [line.split()[0] for line in lines if line.startswith(("  -7 ", "  7.5 "))] == ["-7", "7.5"]
    assert lint("inspect", model, "--values", "-7", "--tpo", "3").returncode == 2
