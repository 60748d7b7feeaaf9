from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import samples

from onnxlint_q.errors import UsageError
from onnxlint_q.report import ReportFormat, check_writable, render, write


@pytest.mark.parametrize("destination", [None, "-"])
def test_standard_output(destination: str | None, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write("重み \ud800\n", destination)
    assert capsysbinary.readouterr().out == "重み \\ud800\n".encode()


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    for name in ("small", "hostile"):
        text = render(samples.ALL[name](), ReportFormat.JSON)
        write(text, target)
        assert target.read_bytes() == text.encode()
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_report_that_cannot_be_finished_leaves_the_old_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "report.html"
    target.write_text("old", "utf-8")
    monkeypatch.setattr(step, full_disk)
    with pytest.raises(UsageError, match=r"cannot write .*report\.html: No space left on device; name"):
        write("new", target)
    assert target.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory; name a file in a folder that exists"):
        write("text", tmp_path / "missing" / "report.json")


def test_a_folder_is_not_a_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        write("text", tmp_path)


def test_what_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place, why in (
        ("missing/r.json", "No such file or directory"),
        ("file/r.json", "Not a directory"),
        (".", "it is a folder"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(UsageError, match=f"cannot write .*{why}"):
            check_writable(tmp_path / place)
    check_writable(tmp_path / "new.json")
    check_writable(tmp_path / "file")
    check_writable(os.devnull)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr("os.access", lambda *_: False)  # a test may run as root, whom nothing stops
    for name in ("new.json", "file"):
        with pytest.raises(UsageError, match="Permission denied; name a file in a folder that exists and can be"):
            check_writable(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="links and modes are POSIX here")
def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "real.txt", tmp_path / "link.txt"
    target.write_text("old", "utf-8")
    target.chmod(0o640)
    link.symlink_to(target)
    write("new", link)
    assert link.is_symlink()
    assert target.read_text("utf-8") == "new"
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="there is no /dev/null")
def test_a_device_is_written_to_and_not_replaced() -> None:
    write("text", os.devnull)
    assert not Path(os.devnull).is_file()


def test_importing_the_package_loads_neither_rich_nor_jinja2() -> None:
    code = "import sys, onnxlint_q.report; sys.exit(bool({'rich', 'jinja2'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_format_renders() -> None:
    for report_format in ReportFormat:
        assert "small.onnx" in render(samples.small(), report_format)
