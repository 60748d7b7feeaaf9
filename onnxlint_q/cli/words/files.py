"""The files that a command reads and writes, each where it may be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from onnxlint_q.errors import UsageError
from onnxlint_q.graph.loading.external import lost
from onnxlint_q.graph.loading.save import model_files
from onnxlint_q.judge.config import Config
from onnxlint_q.report import ReportFormat, check_writable


def find_models(names: Sequence[str]) -> list[Path]:
    """The files to lint: folders are searched for `*.onnx`, files are taken as they are.

    Raises:
        UsageError: a folder holds none, or a name is empty.
    """
    found: list[Path] = []
    for name in names:
        path = _model(name)
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*.onnx") if entry.is_file())
            if not inside:
                raise UsageError(f"{path}: holds no .onnx files; pass a folder that does")
            found.extend(inside)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def parse_inspected(words: Sequence[str]) -> tuple[Path, ...]:
    """One file to inspect, or two.

    Raises:
        UsageError: there are more files, or one has no name or is a folder.
    """
    paths = [_model(word) for word in words]
    if not 1 <= len(paths) <= 2:
        raise UsageError(f"inspect takes one model or two, not {len(paths)}; for many use `onnxlint-q check`")
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is not None:
        raise UsageError(f"{folder}: is a folder; name the .onnx file in it, or lint them all with `onnxlint-q check`")
    return tuple(paths)


def parse_written(
    model: str,
    out: Path | None,
    *,
    in_place: bool,
    diff: bool,
    quiet: bool = False,
    read: Sequence[str | Path | None] = (),
) -> tuple[Path, Path | None]:
    """The model to change, and the file to write it to; None where nothing is to be written.

    Args:
        model: as typed.
        out: of `-o`.
        in_place: the file is the model itself.
        diff: nothing is written.
        quiet: nothing is told of what changes.
        read: other files and folders of this run.

    Raises:
        UsageError: it is not said where to, or said twice; or a file of this run would be replaced.
    """
    given = [name for name, said in (("-o", out is not None), ("--in-place", in_place), ("--diff", diff)) if said]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other; leave one out")
    if diff and quiet:
        raise UsageError("--diff and --quiet contradict each other; leave one out")
    if not given:
        raise UsageError("say where the changed model goes: -o OUT, --in-place, or --diff to write nothing")
    if out is None:
        path = _one_model(model)
        return path, None if diff else path
    return parse_target(model, out, model_files(out), read, "; --in-place changes the model itself"), out


def parse_target(
    model: str,
    out: Path,
    written: Sequence[Path],
    read: Sequence[str | Path | None],
    itself: str = "; name another file with -o",
) -> Path:
    """The model to make a file of.

    Args:
        model: as typed.
        out: the file to make.
        written: every file that is written with it.
        read: other files and folders of this run; None for one that was not named.
        itself: what to do where the file is the model.

    Raises:
        UsageError: a file cannot be written, or one of this run would be replaced.
    """
    path = _one_model(model)
    for target in written:
        check_writable(target)
        found = (lost(Path(name), str(target)) for name in (path, *read) if name is not None)
        if what := next(filter(None, found), ""):
            instead = itself if what == str(path) else "; name another file with -o"
            raise UsageError(f"{out} would replace a file of this run, {what}{instead}")
    return path


def parse_baselines(
    configs: Iterable[Config], baseline: Path | None, write_baseline: Path | None, *, prune: bool
) -> tuple[Path, ...]:
    """The baselines to write after the run, one or those of all models.

    Raises:
        UsageError: two options contradict each other, there is none to prune, or one cannot be written.
    """
    said = {
        "--baseline": baseline is not None,
        "--write-baseline": write_baseline is not None,
        "--prune-baseline": prune,
    }
    given = [name for name, one in said.items() if one]
    if write_baseline is not None and len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other; leave one out")
    files = {config.baseline: None for config in configs if config.baseline is not None} if prune else {}
    if prune and not files:
        raise UsageError("--prune-baseline: there is no baseline; name one with --baseline, or in the configuration")
    written = (write_baseline,) if write_baseline is not None else tuple(files)
    for file in written:
        check_writable(file)
    return written


def parse_reports(
    wanted: Sequence[str],
    html: str | None,
    known: Sequence[ReportFormat] = tuple(ReportFormat),
    *,
    verbose: bool = False,
    quiet: bool = False,
) -> list[tuple[ReportFormat, str | None]]:
    """Formats and where each goes, None being standard output; `full` goes there if nothing else does.

    `known` are those that there are of this report.

    Raises:
        UsageError: a format is unknown, two reports want standard output, or there is no full one to be `verbose`
            or `quiet`, or it is to be both.
    """
    reports: list[tuple[ReportFormat, str | None]] = []
    for word in [*wanted, *([f"html={html}"] if html is not None else [])]:
        name, to_file, destination = word.partition("=")
        if name not in known:
            raise UsageError(f"--output-format {word!r}: choose from {', '.join(known)}")
        if to_file and not destination:
            raise UsageError(f"the {name} report has no file name; give one, or - for standard output")
        reports.append((ReportFormat(name), destination if destination not in {"", "-"} else None))
    to_stdout = sum(destination is None for _, destination in reports)
    if to_stdout > 1:
        raise UsageError("only one report can go to standard output; give the others a file: --output-format json=FILE")
    if not to_stdout:
        reports.append((ReportFormat.FULL, None))
    if verbose and quiet:
        raise UsageError("--quiet and --verbose contradict each other; leave one out")
    if quiet and not any(form is ReportFormat.FULL for form, _ in reports):
        raise UsageError("--quiet is for the full report; leave it out, or --output-format that replaces it")
    if verbose and not any(form is ReportFormat.FULL for form, _ in reports):
        raise UsageError("--verbose is for the full report; the others have everything already, so leave it out")
    return reports


def keep_apart(reports: Sequence[tuple[ReportFormat, str | None]], read: Iterable[str | Path | None]) -> None:
    """Check that every report can be written, and that none would replace a file of the run, or another report.

    A file of the run may be one that is still to be written. A folder that is read stands for the files in it, a model
    also for the files that hold its weights.

    Raises:
        UsageError: one cannot, or would.
    """
    sources = [Path(name) for name in read if name is not None]
    taken: set[str] = set()
    for destination in (name for _, name in reports if name is not None):
        check_writable(destination)
        target = os.path.realpath(destination)
        if target in taken:
            raise UsageError(f"two reports go to the file {destination}; name another file for one of them")
        what = next((what for source in sources if (what := lost(source, target))), None)
        if what is not None:
            raise UsageError(f"the report {destination} would replace a file of this run, {what}; name another file")
        if not Path(target).is_char_device():  # /dev/null can be written to twice
            taken.add(target)


def _one_model(model: str) -> Path:
    path = _model(model)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name one .onnx file")
    return path


def _model(name: str) -> Path:
    if not name:
        raise UsageError("a model name is empty; pass an .onnx file or a folder of them")
    return Path(name)
