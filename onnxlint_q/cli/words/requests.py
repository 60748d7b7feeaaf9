"""What the words of the command line mean: from text to values, with an error that says what would be right."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.preprocess import DEFAULT_PRESET, MOST_PIXELS, Preprocessing, preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.limits import DEFAULT_SAMPLES, PROVING
from onnxlint_q.graph.loading.external import lost
from onnxlint_q.graph.loading.save import model_files
from onnxlint_q.judge.config import Config, Data, Overrides
from onnxlint_q.report import ReportFormat, check_writable
from onnxlint_q.workflow.record import DataRequest


@dataclass(frozen=True, slots=True)
class ImageWords:
    """What was said about the preprocessing of images; None where an option was not given."""

    preprocess: str | None = None
    mean: str | None = None
    std: str | None = None
    scale: float | None = None
    channel_order: str | None = None
    resize: str | None = None
    crop: str | None = None
    layout: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        return [_option(known.name) for known in fields(self) if getattr(self, known.name) is not None]

    def over(self, known: Data) -> ImageWords:
        """With what the configuration says on the others; a preset on the command line leaves nothing of it."""
        if self.preprocess is not None:
            return self
        said = {name.name: getattr(self, name.name) for name in fields(self)}
        return ImageWords(**{name: getattr(known, name) if value is None else value for name, value in said.items()})


def parse_data(
    calibrate: str | None,
    images: ImageWords,
    *,
    samples: int | None = None,
    observer: str | None = None,
    trials: int | None = None,
    measure: Sequence[str] | None = None,
    labels: Path | None = None,
    prove: str | None = None,
    known: Data | None = None,
) -> DataRequest | None:
    """What to do with calibration data; None where none was named. `known` is what the configuration says of it.

    Raises:
        UsageError: a word is none of its option, an option that was given has nothing to act on, or there is no data
            where it is said to be.
    """
    said = images if known is None else images.over(known)
    how = parse_preprocessing(
        said.preprocess,
        mean=said.mean,
        std=said.std,
        scale=said.scale,
        channel_order=said.channel_order,
        resize=said.resize,
        crop=said.crop,
        layout=said.layout,
    )
    words = split_words(measure)
    if any(word != "layers" for word in words):
        raise UsageError(f"--measure {','.join(words)}: choose `layers`")
    if calibrate is None:
        given = {
            "samples": samples,
            "observer": observer,
            "trials": trials,
            "measure": measure or None,
            "labels": labels,
            "prove": prove,
        }
        useless = [*images.given, *(_option(name) for name, value in given.items() if value is not None)]
        if useless:
            instead = ", or give --probe" if "--measure" in useless else ""
            raise UsageError(f"{_have(useless)} no effect without data; give it with --calibrate{instead}")
        return None
    source = open_source(calibrate, how)
    if images.given and not isinstance(source, ImageFolder):
        raise UsageError(
            f"{_have(images.given)} no effect on --calibrate {calibrate}, which is no folder of images; leave out the "
            "options for images"
        )
    return DataRequest(
        source,
        samples or DEFAULT_SAMPLES,
        observer or DEFAULT_OBSERVER,
        bool(words),
        trials or 0,
        labels,
        prove or PROVING[0],
    )


def parse_shapes(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by input.

    Raises:
        UsageError: a word is not of the form NAME=1,3,320,320, or names an input a second time.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for word in words:
        # A name may hold an equals sign itself.
        name, _, listed = word.rpartition("=")
        lengths = [length.strip() for length in listed.split(",")]
        if not name or not all(length.isdecimal() and len(length) < 10 and int(length) > 0 for length in lengths):
            raise UsageError(f"--input-shape {word!r}: give NAME=1,3,320,320, each axis 1 or more")
        if name in shapes:
            raise UsageError(f"--input-shape {name}: given twice; give one shape an input")
        shapes[name] = tuple(map(int, lengths))
    return shapes


def parse_overrides(
    config: Path | None,
    *,
    no_config: bool,
    select: Sequence[str] | None,
    extend_select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    scheme: str | None,
    fail_on: str | None,
    fail_on_verdict: str | None,
    target: str | None = None,
    baseline: Path | None = None,
    write_baseline: Path | None = None,
) -> Overrides:
    """What the command line says of the configuration.

    Raises:
        UsageError: two options contradict each other.
    """
    if config is not None and no_config:
        raise UsageError("--config and --no-config contradict each other; leave one out")
    return Overrides(
        file=config,
        search=not no_config,
        select=split_words(select),
        extend_select=split_words(extend_select),
        ignore=split_words(ignore),
        scheme=None if scheme is None else split_words([scheme]),
        target=None if target is None else split_words([target]),
        fail_on=fail_on,
        fail_on_verdict=fail_on_verdict,
        baseline=baseline,
        anew=write_baseline is not None,
    )


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


def parse_written(
    model: str, out: Path | None, *, in_place: bool, diff: bool, read: Sequence[str | Path | None] = ()
) -> tuple[Path, Path | None]:
    """The model to change, and the file to write it to; None where nothing is to be written.

    Args:
        model: as typed.
        out: of `-o`.
        in_place: the file is the model itself.
        diff: nothing is written.
        read: other files and folders of this run.

    Raises:
        UsageError: it is not said where to, or said twice; or a file of this run would be replaced.
    """
    given = [name for name, said in (("-o", out is not None), ("--in-place", in_place), ("--diff", diff)) if said]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other; leave one out")
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


def _one_model(model: str) -> Path:
    path = _model(model)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name one .onnx file")
    return path


def parse_inspected(words: Sequence[str], values: Sequence[str] | None) -> tuple[tuple[Path, ...], tuple[float, ...]]:
    """One file to inspect or two, and the values to round.

    Raises:
        UsageError: there are more files, or one has no name, or a value is no number.
    """
    numbers = [part for text in values or () for part in text.replace(",", " ").split() or [text]]
    wrong = next((text for text in numbers if not _is_number(text)), None)
    if wrong is not None:
        raise UsageError(f"--values {wrong!r}: give numbers, with spaces or commas between")
    paths = [_model(word) for word in words]
    if not 1 <= len(paths) <= 2:
        raise UsageError(f"inspect takes one model or two, not {len(paths)}; for many use `onnxlint-q check`")
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is not None:
        raise UsageError(f"{folder}: is a folder; name the .onnx file in it, or lint them all with `onnxlint-q check`")
    return tuple(paths), tuple(map(float, numbers))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def parse_reports(
    wanted: Sequence[str],
    html: str | None,
    known: Sequence[ReportFormat] = tuple(ReportFormat),
    *,
    verbose: bool = False,
) -> list[tuple[ReportFormat, str | None]]:
    """Formats and where each goes, None being standard output; `full` goes there if nothing else does.

    `known` are those that there are of this report.

    Raises:
        UsageError: a format is unknown, two reports want standard output, or there is no full one to be `verbose`.
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


def parse_preprocessing(
    name: str | None,
    *,
    mean: str | None,
    std: str | None,
    scale: float | None,
    channel_order: str | None,
    resize: str | None,
    crop: str | None,
    layout: str | None,
) -> Preprocessing:
    """A preset, the default one without a name, with what else was said on top.

    Raises:
        UsageError: a value is not of its option's form, or cannot be used.
    """
    name = name or DEFAULT_PRESET
    changed: dict[str, Any] = {}
    if mean is not None:
        changed["mean"] = _numbers("--mean", mean)
    if std is not None:
        changed["std"] = _numbers("--std", std)
    if scale is not None:
        changed["scale"] = scale
    if resize is not None:
        changed["resize"] = _pixels("--resize", resize)
    if crop is not None:
        pixels = _pixels("--crop", crop)
        changed["crop"] = (pixels[0], pixels[-1])
    if channel_order is not None:
        changed["channel_order"] = channel_order.lower()
    if layout is not None:
        changed["layout"] = layout.lower()
    base = preset(name)
    return replace(base, name=f"{name} with changes", **changed) if changed else base


def split_words(options: Sequence[str] | None) -> tuple[str, ...]:
    """Repeated options, each with commas between, as one list."""
    return tuple(word.strip() for option in options or () for word in option.split(",") if word.strip())


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


def _model(name: str) -> Path:
    if not name:
        raise UsageError("a model name is empty; pass an .onnx file or a folder of them")
    return Path(name)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _have(options: Sequence[str]) -> str:
    """`--mean has`, `--mean and --std have`."""
    *others, last = options
    return f"{', '.join(others)} and {last} have" if others else f"{last} has"


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text!r}: give one number, or one a channel with commas between")
    return numbers


def _pixels(option: str, text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 5 and 0 < int(part) <= MOST_PIXELS for part in parts):
        raise UsageError(f"{option} {text!r}: give pixels from 1 to {MOST_PIXELS}, or HEIGHTxWIDTH")
    return tuple(int(part) for part in parts)
