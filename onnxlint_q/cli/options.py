"""Options that several commands have, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Preprocess = Annotated[str, typer.Option(help="Preprocessing of images: imagenet, tf, unit or raw.")]
Mean = Annotated[str | None, typer.Option(help="Mean to subtract after scaling: one value, or one a channel.")]
Std = Annotated[str | None, typer.Option(help="Standard deviation to divide by: one value, or one a channel.")]
Scale = Annotated[float | None, typer.Option(help="Factor on the pixels 0-255, before the mean.")]
ChannelOrder = Annotated[str | None, typer.Option(help="rgb or bgr.")]
Resize = Annotated[str | None, typer.Option(help="Pixels of the short side, or HEIGHTxWIDTH, before the centre crop.")]
Crop = Annotated[str | None, typer.Option(help="Centre crop: pixels, or HEIGHTxWIDTH.")]
Layout = Annotated[str | None, typer.Option(help="nchw or nhwc; seen from the input's shape by default.")]
Samples = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many samples to take.")]
Select = Annotated[list[str] | None, typer.Option(help="Rules to run instead of all: codes, prefixes, names.")]
ExtendSelect = Annotated[list[str] | None, typer.Option(help="Rules to run as well.")]
Ignore = Annotated[list[str] | None, typer.Option(help="Rules not to run.")]
FailOn = Annotated[
    str | None, typer.Option(help="Lowest severity that makes the exit code 1: error, warning, info or none.")
]
FailOnVerdict = Annotated[
    str | None, typer.Option(help="Best verdict that makes the exit code 1: breaks, degrades or none.")
]
ConfigFile = Annotated[Path | None, typer.Option(help="Configuration file, instead of the one that is found.")]
NoConfig = Annotated[bool, typer.Option("--no-config", help="Look for no configuration file.")]
OutputFormat = Annotated[
    list[str] | None,
    typer.Option(help="full, concise, json or html, with =FILE to write a file; can be repeated."),
]
Html = Annotated[str | None, typer.Option(metavar="FILE", help="Write the HTML report; same as html=FILE.")]
