"""What the words of the command line mean: from text to values, with an error that says what would be right."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER, OBSERVERS
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.preprocess import Preprocessing, preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.judge.config import Config, find_config, read_config
from onnxlint_q.report import ReportFormat
from onnxlint_q.workflow.check import Request


def parse_request(
    scheme: str,
    calibrate: str | None,
    how: Preprocessing,
    samples: int,
    *,
    observer: str = DEFAULT_OBSERVER,
    trials: int = 0,
    probe: bool = False,
    measure: Sequence[str] = (),
) -> Request:
    """What to do with each model.

    Raises:
        UsageError: a scheme, an observer or what to measure is unknown, or there is no data for what is asked.
        DataError: there is no calibration data where it is said to be.
    """
    names = list(SCHEMES) if scheme == "all" else list(dict.fromkeys(split_words([scheme])))
    if not names or any(name not in SCHEMES for name in names):
        raise UsageError(f"--scheme {scheme!r}: choose from {', '.join(SCHEMES)}, or all")
    if observer not in OBSERVERS:
        raise UsageError(f"--observer {observer!r}: choose from {', '.join(OBSERVERS)}")
    if any(word != "layers" for word in measure):
        raise UsageError(f"--measure {','.join(measure)}: it can be `layers`")
    if measure and calibrate is None:
        raise UsageError("--measure layers runs on data; give it with --calibrate, or use --probe without data")
    if calibrate is None and (trials or observer != DEFAULT_OBSERVER):
        raise UsageError(f"{'--trials' if trials else '--observer'} needs data; name it with --calibrate")
    if trials == 1:
        raise UsageError("--trials 1 has no spread; ask for at least 2")
    source = open_source(calibrate, how) if calibrate is not None else None
    chosen = tuple(SCHEMES[name] for name in names)
    return Request(chosen, source, samples, probe, observer=observer, trials=trials, measure_layers=bool(measure))


def parse_reports(wanted: Sequence[str], html: str | None) -> list[tuple[ReportFormat, str | None]]:
    """Formats and where each goes, None being standard output; `full` goes there if nothing else does.

    Raises:
        UsageError: a format is unknown, or two reports want standard output.
    """
    reports: list[tuple[ReportFormat, str | None]] = []
    for word in [*wanted, *([f"html={html}"] if html is not None else [])]:
        name, to_file, destination = word.partition("=")
        if name not in set(ReportFormat):
            raise UsageError(f"--output-format {word!r}: choose from {', '.join(ReportFormat)}")
        if to_file and not destination:
            raise UsageError(f"the {name} report has no file name; give one, or - for standard output")
        reports.append((ReportFormat(name), destination if destination not in {"", "-"} else None))
    to_stdout = sum(destination is None for _, destination in reports)
    if to_stdout > 1:
        raise UsageError("only one report can go to standard output; give the others a file: --output-format json=FILE")
    return reports if to_stdout else [*reports, (ReportFormat.FULL, None)]


def keep_apart(reports: Sequence[tuple[ReportFormat, str | None]], read: Iterable[str | Path | None]) -> None:
    """Check that no report would replace a file that is read, or another report.

    Raises:
        UsageError: one would.
    """
    taken = {os.path.realpath(path) for path in read if path is not None}
    for destination in (name for _, name in reports if name is not None):
        target = os.path.realpath(destination)
        if target in taken:
            raise UsageError(f"the report {destination} would replace a file of this run; name another file")
        if not Path(target).is_char_device():  # /dev/null can be written to twice
            taken.add(target)


def parse_preprocessing(
    name: str,
    *,
    mean: str | None,
    std: str | None,
    scale: float | None,
    channel_order: str | None,
    resize: str | None,
    crop: str | None,
    layout: str | None,
) -> Preprocessing:
    """A preset with what else was said on top.

    Raises:
        UsageError: a value is not of its option's form.
    """
    changed: dict[str, Any] = {}
    if mean is not None:
        changed["mean"] = _numbers("--mean", mean)
    if std is not None:
        changed["std"] = _numbers("--std", std)
        if min(changed["std"]) <= 0:
            raise UsageError(f"--std {std!r}: a standard deviation cannot be zero or negative")
    if scale is not None:
        if not math.isfinite(scale) or scale == 0:
            raise UsageError(f"--scale {scale}: give a finite factor other than zero")
        changed["scale"] = scale
    if resize is not None:
        changed["resize"] = _pixels("--resize", resize)
    if crop is not None:
        pixels = _pixels("--crop", crop)
        changed["crop"] = (pixels[0], pixels[-1])
    if channel_order is not None:
        changed["channel_order"] = _choice("--channel-order", channel_order, ("rgb", "bgr"))
    if layout is not None:
        changed["layout"] = _choice("--layout", layout, ("nchw", "nhwc"))
    base = preset(name)
    return replace(base, name=f"{name} with changes", **changed) if changed else base


def split_words(options: Sequence[str] | None) -> tuple[str, ...]:
    """Repeated options, each with commas between, as one list."""
    return tuple(word.strip() for option in options or () for word in option.split(",") if word.strip())


def configured(
    path: Path,
    config_path: Path | None,
    no_config: bool,
    words: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
) -> Config:
    """The configuration for one model, with what the command line says on top.

    Raises:
        UsageError: the file cannot be used, or the options contradict each other.
    """
    if config_path is not None and no_config:
        raise UsageError("--config and --no-config contradict each other")
    config = Config() if no_config else read_config(config_path) if config_path is not None else find_config(path)
    chosen = config.selection
    select, extend, ignore = words
    return replace(
        config,
        selection=replace(
            chosen,
            select=select or chosen.select,
            extend_select=(*chosen.extend_select, *extend),
            ignore=(*chosen.ignore, *ignore) if not select else ignore,
        ),
    )


def find_models(names: Sequence[str]) -> list[Path]:
    """The files to lint: folders are searched for `*.onnx`, files are taken as they are.

    Raises:
        UsageError: a folder holds none, or a name is empty.
    """
    found: list[Path] = []
    for name in names:
        if not name:
            raise UsageError("an empty name is no model; pass an .onnx file or a folder of them")
        path = Path(name)
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*.onnx") if entry.is_file())
            if not inside:
                raise UsageError(f"{path}: holds no .onnx files")
            found.extend(inside)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _choice(option: str, word: str, allowed: tuple[str, ...]) -> str:
    if word.lower() not in allowed:
        raise UsageError(f"{option} {word!r}: choose {' or '.join(allowed)}")
    return word.lower()


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
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 5 and 0 < int(part) <= 8192 for part in parts):
        raise UsageError(f"{option} {text!r}: give pixels from 1 to 8192, or HEIGHTxWIDTH")
    return tuple(int(part) for part in parts)
