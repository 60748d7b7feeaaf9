"""The command `quantize`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.terminal.progress import progress_line
from onnxlint_q.cli.terminal.streams import (
    CLEAN,
    FINDINGS,
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


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The float model.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="Write the quantised model to this file, and its recipe beside it."
        ),
    ],
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Take ranges from this data, and measure on it: {configured_data}. Without it, from synthetic inputs."
        ),
    ] = None,
    labels: shared.Labels = None,
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
    scheme: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.several("schemes"),
            help="Schemes that may be used, separated by commas: names as of `check --scheme`. int8-per-tensor is for "
            "hardware that has one scale a tensor.",
        ),
    ] = None,
    min_sqnr: Annotated[
        float | None, typer.Option("--min-sqnr", metavar="DB", help="SQNR that the worst output has to keep, as 20.")
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            "--min-agreement", metavar="F", help="Fraction of samples that have to keep their top class, as 0.98."
        ),
    ] = None,
    max_float: Annotated[
        float | None,
        typer.Option(
            "--max-float",
            metavar="F",
            help="Fraction of the multiplications that may leave 8 bits, for float or 16 bits: 0 for none; "
            "0.25 by default.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="Follow this recipe instead of searching for one.")
    ] = None,
    keep_float: Annotated[
        bool, typer.Option("--keep-float", help="Write the float model that is quantised, too: OUT.float.onnx.")
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.several("rewrites"),
            help="Only these rewrites of `fix`, by name; can be repeated.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.several("rewrites"),
            help="Not these rewrites of `fix`, by name; can be repeated.",
        ),
    ] = None,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Only rewrites that leave the outputs the same for every input.")
    ] = False,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.one("quantize_formats"),
            help="{quantize_formats}, with =FILE to write a file; can be repeated.",
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
    """Quantise a float model so that it reaches a goal at the least cost, and run what was written.

    What costs no multiplications outside of int8 is tried first: `fix`, one scale
    a channel, several ways to take ranges, shifted biases, layers only, scales
    that each run takes for itself. Then activations of 16 bits and nodes in
    float, those first that gain most for each multiplication that leaves 8 bits.
    Without --min-sqnr and --min-agreement the model has to survive; an output
    that is judged by SQNR gets up to 20 dB where a decibel costs less than 1 %
    of the multiplications.
    Without --calibrate ranges and figures come from synthetic inputs, and nothing
    about accuracy on real data is measured.
    Exits with 1 if the goal is not reached, and writes the best that was found.
    """
    debug = debugging(debug)
    with errors_as_one_line(debug):
        from onnxlint_q.cli.words.data import data_by_model, known_data
        from onnxlint_q.cli.words.files import keep_apart, parse_reports, parse_target
        from onnxlint_q.cli.words.images import ImageWords
        from onnxlint_q.cli.words.requests import parse_overrides, parse_shapes, split_words
        from onnxlint_q.execute.limits import Asked
        from onnxlint_q.proof.recipe.goal import MOST_FLOAT
        from onnxlint_q.report.quantize import FORMATS, render
        from onnxlint_q.workflow import check as linting
        from onnxlint_q.workflow.mending import quantize as workflow
        from onnxlint_q.workflow.mending import quantize_request as asked
        from onnxlint_q.workflow.mending.mend import Selection

        written = asked.written_beside(output, keep_float=keep_float)
        images = ImageWords(preprocess, mean, std, scale, channel_order, resize, crop, layout)
        reports = parse_reports(output_format or [], html, FORMATS, verbose=verbose, quiet=quiet)
        data_of = data_by_model(calibrate, images, samples=samples, labels=labels)
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
        read = [calibrate, labels, recipe, *known_data([job.config]), job.config.source]
        path = parse_target(model, output, written, read)
        keep_apart(reports, [path, *read, *written])
        request = asked.QuantizeRequest(
            out=output,
            data=data,
            min_db=min_sqnr,
            min_agreement=min_agreement,
            max_float=MOST_FLOAT if max_float is None else max_float,
            recipe=recipe,
            keep_float=keep_float,
            selection=Selection(split_words(select), split_words(ignore), exact_only),
            input_shapes=parse_shapes(input_shape or []),
            asked=Asked(max_memory, timeout),
        )
        show_crashes(debug)
        look = report_look(verbose=verbose, paths=show_paths, dated=show_date, quiet=quiet)
        with working():
            with progress_line(quiet=quiet) as progress:
                made = workflow.quantize(path, job.rules, job.config, request, progress, apart=not debug)
            delivered = deliver(reports, lambda form: render(made, form, look), debug)
    if not delivered:
        raise typer.Exit(NO_ANSWER)
    raise typer.Exit(CLEAN if made.reached else FINDINGS)
