"""Runs over several models: the table at the end, and the lines of --quiet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import samples

from onnxlint_q.finding import Severity
from onnxlint_q.report import ReportFormat, render, terminal_look
from onnxlint_q.report.digest import summary
from onnxlint_q.report.formats import Look
from onnxlint_q.workflow.results import Failure, Run, Verdict

WIDTHS = (60, 80, 100, 140, 200)


def folder() -> Run:
    runs = (samples.small(), samples.quantised(), samples.found_nothing(Verdict.SURVIVES))
    (costly,) = samples.costly().models
    models = [*(model for run in runs for model in run.models), replace(costly, findings=())]
    named = (replace(model, path=f"release/nets/model_{number}.onnx") for number, model in enumerate(models))
    return Run((*named, *samples.found_nothing(None).models), (Failure("release/pointer.onnx", "an LFS pointer"),))


def full(run: Run, width: int, *, verbose: bool = False, quiet: bool = False) -> str:
    look = Look(min(width, 120), columns=width, verbose=verbose, quiet=quiet)
    return render(run, ReportFormat.FULL, look)


def words_of(text: str) -> set[str]:
    return {word.strip(",;") for word in text.split()}


def table(run: Run, width: int) -> list[str]:
    lines = full(run, width).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("Summary"))
    return lines[start : lines.index("", start) if "" in lines[start:] else None]


def test_a_run_over_several_models_ends_with_a_row_each() -> None:
    run = folder()
    told = table(run, 200)
    assert len(told) == 2 + len(run.models) + 1
    first = next(line for line in told if "model_0.onnx" in line)
    assert "✖ hold: breaks" in first and "▲ hold: degrades" in first
    assert "1 error, 1 warning" in first and "QW001 unequal-channel-ranges at dw1" in first
    assert "not linted" in told[-1] and "pointer.onnx" in told[-1]
    assert "of the noise from" in next(line for line in told if "model_3.onnx" in line)


def test_one_model_has_no_summary() -> None:
    assert "Summary" not in full(samples.small(), 200)


@pytest.mark.parametrize("width", WIDTHS)
def test_whatever_the_width_every_row_fits_and_tells_the_same(width: int) -> None:
    told = table(folder(), width)
    assert all(len(line) <= width for line in told)
    words = " ".join(told).split()
    assert set(words) >= {"breaks", "degrades", "survives", "unknown", "QW001", "linted"}
    assert words.count("breaks") == " ".join(table(folder(), 400)).split().count("breaks")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [name for name in samples.ALL if name not in {"hostile", "large"}])
def test_no_word_is_cut(name: str, width: int) -> None:
    """Neither in the screen of a model nor in the table of several."""
    (model,) = samples.ALL[name]().models or samples.small().models
    run = Run((model, replace(model, path="again.onnx")))
    whole = full(run, 1000) + full(run, 1000, verbose=True)
    said = {"verdict", "call", "--verbose"}  # where there is less room
    assert {word.strip(",;.") for word in full(run, width).split()} <= {
        word.strip(",;.") for word in whole.split()
    } | said


def test_a_path_of_a_stranger_drives_no_terminal() -> None:
    (model,) = samples.small().models
    run = Run((model, replace(model, path="a\x1b[31mb\u202e.onnx")))
    assert "\x1b" not in full(run, 100) and "\u202e" not in full(run, 100)


def test_paths_that_have_no_folder_in_common_stay() -> None:
    (model,) = samples.small().models
    told = table(Run((replace(model, path="/a/m.onnx"), replace(model, path="b/m.onnx"))), 200)
    assert told[0] == "Summary" and "/a/m.onnx" in told[2] and "b/m.onnx" in told[3]


def test_a_verdict_that_a_baseline_accepts_is_marked() -> None:
    (model,) = samples.small().models
    accepted = replace(model, accepted=("int8-per-tensor",))
    assert any("✖ hold: breaks, known" in line for line in table(Run((accepted, model)), 200))


def test_what_to_do_with_a_release_stands_in_the_row_of_its_model() -> None:
    rows = {line.split()[0].rsplit("/")[-1]: line for line in table(folder(), 200)[2:]}
    assert "✔ ship: survives" in rows["model_2.onnx"]
    assert "as it is" in table(folder(), 200)[1] and "? unsure" in rows["model_1.onnx"]


def test_the_totals_do_not_tell_of_nothing_found_without_a_but() -> None:
    (unknown,) = samples.found_nothing(None).models
    scheme = unknown.schemes[0].scheme
    assert summary(Run((unknown,))).startswith(f"no findings in 1 model, but no verdict under {scheme}")
    assert full(Run((unknown,)), 100).splitlines()[-1].startswith("No findings in 1 model, but no verdict")


def test_quiet_tells_what_fails_and_nothing_else() -> None:
    (model,) = samples.small().models
    lines = full(samples.small(), 100, quiet=True).splitlines()
    assert lines[0].startswith("small.onnx: int8-per-tensor breaks") and "degrades" not in lines[0]
    assert [line.split(": ")[1].split()[0] for line in lines[1:]] == ["QW001", "QG004"]
    lenient = replace(model, fail_on=Severity.ERROR, fail_on_verdict=None)
    assert len(full(Run((lenient,)), 100, quiet=True).splitlines()) == 1
    assert full(Run((replace(model, fail_on=None, fail_on_verdict=None),)), 100, quiet=True) == ""
    assert not samples.found_nothing(Verdict.SURVIVES).fails
    assert full(samples.found_nothing(Verdict.SURVIVES), 100, quiet=True) == ""


def test_a_wide_terminal_widens_tables_of_models_and_no_lines_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for columns, width, wide in ((40, 60, 60), (90, 90, 90), (160, 120, 160), (500, 120, 200)):
        monkeypatch.setenv("COLUMNS", str(columns))
        look = terminal_look(Terminal(), {})
        assert (look.width, look.columns) == (width, wide)
