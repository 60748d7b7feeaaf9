"""Options that several commands have, as types; module `choices` fills in their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.terminal.streams import DEBUG_VARIABLE
from onnxlint_q.cli.words import completion
from onnxlint_q.execute.limits import BYTES_PER_STORED, MOST_EARNED, MOST_SAMPLES, USUAL_BYTES, USUAL_SECONDS

CONFIGURED = "config"
"""What `--calibrate` can be instead of a path: the data that the configuration names for each model."""

Labels = Annotated[
    Path | None,
    typer.Option(help="True classes of the samples: lines of `file name, class index`, or an .npy of integers."),
]
Preprocess = Annotated[
    str | None, typer.Option(autocompletion=completion.one("presets"), help="Preprocessing of images: {presets}.")
]
Mean = Annotated[str | None, typer.Option(help="Mean to subtract after scaling: one value, or one per channel.")]
Std = Annotated[str | None, typer.Option(help="Standard deviation to divide by: one value, or one per channel.")]
Scale = Annotated[float | None, typer.Option(help="Factor on the pixels 0–255, before the mean is subtracted.")]
ChannelOrder = Annotated[
    str | None, typer.Option(autocompletion=completion.one("channel_orders"), help="{channel_orders}.")
]
Resize = Annotated[
    str | None, typer.Option(help="Size before the centre crop: pixels of the short side, or HEIGHTxWIDTH.")
]
Crop = Annotated[str | None, typer.Option(help="Centre crop: pixels, or HEIGHTxWIDTH.")]
Layout = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.one("layouts"), help="{layouts}; by default taken from the shape of the input."
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1,3,320,320", help="Shape of an input whose axes the file leaves open; can be repeated."
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,NAME]",
        autocompletion=completion.several("targets"),
        help="What the file has to run on, separated by commas: {targets}. By default the `target` of the "
        "configuration.",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(autocompletion=completion.rules, help="Run only these rules: codes, prefixes of codes, or names."),
]
ExtendSelect = Annotated[list[str] | None, typer.Option(autocompletion=completion.rules, help="Run these rules, too.")]
Ignore = Annotated[list[str] | None, typer.Option(autocompletion=completion.rules, help="Do not run these rules.")]
FailOn = Annotated[
    str | None,
    typer.Option(autocompletion=completion.one("severities"), help="Exit with 1 from this severity on: {severities}."),
]
FailOnVerdict = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.one("verdicts"),
        help="Exit with 1 if a scheme gets this verdict or a worse one: {verdicts}.",
    ),
]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 even if something was found.")]
ConfigFile = Annotated[Path | None, typer.Option(help="Use this configuration file.")]
NoConfig = Annotated[bool, typer.Option("--no-config", help="Use no configuration file.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every place, table and note, not the first screen alone.")
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only what fails, a line each; nothing if nothing does. No progress."),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Print to stderr why rules did not fire, and tracebacks of internal errors; "
        f"{DEBUG_VARIABLE}=1 does the same.",
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        "--max-memory",
        metavar="GB",
        min=0.5,
        help=f"Memory that one model may take (on Linux); by default {USUAL_BYTES / 2**30:g} GB, up to "
        f"{(USUAL_BYTES + MOST_EARNED) / 2**30:g} GB where its layers make large results, and {BYTES_PER_STORED} times "
        "its size.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=1,
        help=f"Time that one model may take; by default {USUAL_SECONDS:g} s and as much for each GB of it, and "
        "far less until it has run once.",
    ),
]
Samples = Annotated[int, typer.Option(min=1, max=MOST_SAMPLES, help="Number of samples.")]
OutputFormat = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=completion.one("formats"), help="{formats}, with =FILE to write a file. Can be repeated."
    ),
]
ShowPaths = Annotated[
    bool,
    typer.Option("--show-paths", help="In the HTML report, show paths as typed. By default it shows file names only."),
]
ShowDate = Annotated[
    bool, typer.Option("--show-date", help="In the HTML report, show when it was made: now, or SOURCE_DATE_EPOCH.")
]
Html = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the HTML report; short for --output-format html=FILE.")
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="What is known: findings and verdicts in this file fail no build. Wins over `baseline`."
    ),
]
