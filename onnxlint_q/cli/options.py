"""Options that several commands have, as types. What can be chosen is listed from where it is defined."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.streams import DEBUG_VARIABLE
from onnxlint_q.execute.data.preprocess import CHANNEL_ORDERS, DEFAULT_PRESET, LAYOUTS, PRESETS
from onnxlint_q.execute.data.sources import MOST_SAMPLES
from onnxlint_q.finding import Severity
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report.formats import ReportFormat


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


Labels = Annotated[
    Path | None,
    typer.Option(help="Classes of the samples: lines of `file name, class index`, or an .npy of integers."),
]
Preprocess = Annotated[
    str | None, typer.Option(help=f"Preprocessing of images: {one_of(PRESETS)}; {DEFAULT_PRESET} by default.")
]
Mean = Annotated[str | None, typer.Option(help="Mean to subtract after scaling: one value, or one a channel.")]
Std = Annotated[str | None, typer.Option(help="Standard deviation to divide by: one value, or one a channel.")]
Scale = Annotated[float | None, typer.Option(help="Factor on the pixels 0-255, before the mean.")]
ChannelOrder = Annotated[str | None, typer.Option(help=f"{one_of(CHANNEL_ORDERS)}.")]
Resize = Annotated[str | None, typer.Option(help="Pixels of the short side, or HEIGHTxWIDTH, before the centre crop.")]
Crop = Annotated[str | None, typer.Option(help="Centre crop: pixels, or HEIGHTxWIDTH.")]
Layout = Annotated[str | None, typer.Option(help=f"{one_of(LAYOUTS)}; seen from the input's shape by default.")]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1,3,320,320", help="Shape of an input whose axes the file leaves open; can be repeated."
    ),
]
Select = Annotated[list[str] | None, typer.Option(help="Rules to run instead of all: codes, prefixes, names.")]
ExtendSelect = Annotated[list[str] | None, typer.Option(help="Rules to run as well.")]
Ignore = Annotated[list[str] | None, typer.Option(help="Rules not to run.")]
FailOn = Annotated[
    str | None,
    typer.Option(
        help=f"Lowest severity that makes the exit code 1: {one_of([*Severity, 'none'])}; {Severity.WARNING} by "
        "default."
    ),
]
FailOnVerdict = Annotated[
    str | None,
    typer.Option(
        help="Best verdict of a judged scheme that makes the exit code 1: "
        f"{one_of([Verdict.BREAKS, Verdict.DEGRADES, 'none'])}; {Verdict.BREAKS} by default."
    ),
]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever was found.")]
ConfigFile = Annotated[Path | None, typer.Option(help="Configuration file, instead of the one that is found.")]
NoConfig = Annotated[bool, typer.Option("--no-config", help="Look for no configuration file.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every place, table and note, not the first screen alone.")
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Say on stderr why rules did not fire, and show the traceback of what should not happen; "
        f"{DEBUG_VARIABLE}=1 does the same.",
    ),
]
Samples = Annotated[int, typer.Option(min=1, max=MOST_SAMPLES, help="How many samples to take.")]
OutputFormat = Annotated[
    list[str] | None,
    typer.Option(help=f"{one_of(ReportFormat)}, with =FILE to write a file; can be repeated."),
]
Html = Annotated[str | None, typer.Option(metavar="FILE", help="Write the HTML report; same as html=FILE.")]
