"""The command `fix`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.terminal.progress import progress_line
from onnxlint_q.cli.terminal.streams import (
    NO_ANSWER,
    debugging,
    deliver,
    errors_as_one_line,
    report_look,
    show_crashes,
    working,
)
from onnxlint_q.cli.words import completion
from onnxlint_q.cli.words import options as shared
from onnxlint_q.execute.limits import MOST_SAMPLES


def fix(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The float model.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Write the changed model to this file.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Write it to MODEL itself.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what would change, place by place.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(help="Try changes on this data: {configured_data}. Without it, on synthetic inputs."),
    ] = None,
    preprocess: shared.Preprocess = None,
    mean: shared.Mean = None,
    std: shared.Std = None,
    scale: shared.Scale = None,
    channel_order: shared.ChannelOrder = None,
    resize: shared.Resize = None,
    crop: shared.Crop = None,
    layout: shared.Layout = None,
    input_shape: shared.InputShape = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_SAMPLES,
            help="Number of samples to take ranges from, and as many others for the figures; {samples} by default.",
        ),
    ] = None,
    observer: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.one("observers"), help="How to take activation ranges from the data: {observers}."
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.several("schemes"),
            help="Schemes that have to gain, separated by commas: names as of `check --scheme`.",
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.several("rewrites"),
            help="Only these rewrites, by name; can be repeated.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.several("rewrites"),
            help="Not these rewrites, by name; can be repeated.",
        ),
    ] = None,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Only what leaves the outputs the same for every input.")
    ] = False,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Also what changes the inputs or outputs of the model.")
    ] = False,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.one("fix_formats"),
            help="{fix_formats}, with =FILE to write a file; can be repeated.",
        ),
    ] = None,
    html: shared.Html = None,
    show_paths: shared.ShowPaths = False,
    show_date: shared.ShowDate = False,
    config: shared.ConfigFile = None,
    no_config: shared.NoConfig = False,
    verbose: shared.Verbose = False,
    quiet: shared.Quiet = False,
    max_memory: shared.MaxMemory = None,
    timeout: shared.Timeout = None,
    debug: shared.Debug = False,
) -> None:
    """Change a float model so that it quantises better and computes the same.

    Each change is tried. Float outputs have to stay the same, and int8 outputs
    to get better. What fails is left out, and the report says why.
    Exits with 0, or with 2 if there is no trustworthy answer: then nothing is
    written.
    """
    debug = debugging(debug)
    with errors_as_one_line(debug):
        from onnxlint_q.cli.words.data import data_by_model, known_data
        from onnxlint_q.cli.words.files import keep_apart, parse_reports, parse_written
        from onnxlint_q.cli.words.images import ImageWords
        from onnxlint_q.cli.words.requests import parse_overrides, parse_shapes, split_words
        from onnxlint_q.execute.limits import Asked
        from onnxlint_q.graph.loading.save import model_files
        from onnxlint_q.report.fix import FORMATS, render
        from onnxlint_q.workflow import check as linting
        from onnxlint_q.workflow.mending import fix as workflow
        from onnxlint_q.workflow.mending.mend import Selection

        images = ImageWords(preprocess, mean, std, scale, channel_order, resize, crop, layout)
        reports = parse_reports(output_format or [], html, FORMATS, verbose=verbose, quiet=quiet)
        data_of = data_by_model(calibrate, images, samples=samples, observer=observer)
        overrides = parse_overrides(
            config,
            no_config=no_config,
            select=None,
            extend_select=None,
            ignore=None,
            scheme=scheme,
            fail_on=None,
            fail_on_verdict=None,
        )
        (job,) = linting.plan([Path(model)], overrides)
        data = data_of(job.config, job.path)
        read = [calibrate, *known_data([job.config]), job.config.source]
        path, out = parse_written(model, output, in_place=in_place, diff=diff, quiet=quiet, read=read)
        keep_apart(reports, [path, *read, *(model_files(out) if out is not None else ())])
        request = workflow.FixRequest(
            out=out,
            data=data,
            selection=Selection(split_words(select), split_words(ignore), exact_only, unsafe),
            input_shapes=parse_shapes(input_shape or []),
            asked=Asked(max_memory, timeout),
        )
        show_crashes(debug)
        look = report_look(verbose=verbose, paths=show_paths, dated=show_date, quiet=quiet)
        with working():
            with progress_line(quiet=quiet) as progress:
                fixed = workflow.fix(path, job.rules, job.config, request, progress, apart=not debug)
            delivered = deliver(reports, lambda form: render(fixed, form, look), debug)
    if not delivered:
        raise typer.Exit(NO_ANSWER)
