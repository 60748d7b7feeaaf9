"""The command `diff`: arguments and wiring; no logic."""

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
    tell,
    working,
)
from onnxlint_q.cli.words import completion
from onnxlint_q.cli.words import options as shared
from onnxlint_q.execute.limits import DEFAULT_SAMPLES, MOST_SAMPLES


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The model of the last release.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The one to be released.", show_default=False)],
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss",
            metavar="DB",
            min=0,
            help="Exit with 1 if a scheme loses more than this at the worst output; with 2 if that cannot be told.",
        ),
    ] = None,
    calibrate: Annotated[str | None, typer.Option(help="Run both models on this data: {configured_data}.")] = None,
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
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help=f"As of `check`; {DEFAULT_SAMPLES} by default.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Without data: run both on synthetic inputs and measure each layer.")
    ] = False,
    scheme: Annotated[
        str | None, typer.Option(autocompletion=completion.several("schemes"), help="Schemes to judge, as of `check`.")
    ] = None,
    select: shared.Select = None,
    extend_select: shared.ExtendSelect = None,
    ignore: shared.Ignore = None,
    exit_zero: shared.ExitZero = False,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.one("diff_formats"),
            help="{diff_formats}, with =FILE to write a file; can be repeated.",
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
    """Say what changed between two releases of a model: verdicts, layers, findings, and inputs and outputs.

    Exits 0, with --max-loss 1 if a scheme lost more, and 2 if there is no trustworthy answer.
    """
    debug = debugging(debug)
    with errors_as_one_line(debug):
        from onnxlint_q.cli.words.data import data_by_model, data_of_jobs, known_data
        from onnxlint_q.cli.words.files import keep_apart, parse_reports
        from onnxlint_q.cli.words.images import ImageWords
        from onnxlint_q.cli.words.requests import parse_overrides, parse_shapes
        from onnxlint_q.errors import UsageError
        from onnxlint_q.execute.limits import Asked
        from onnxlint_q.report import ReportFormat
        from onnxlint_q.report.diff import FORMATS, render
        from onnxlint_q.workflow import diff as workflow
        from onnxlint_q.workflow.check import plan
        from onnxlint_q.workflow.record import CheckRequest

        for path in (old, new):
            if path.is_dir():
                raise UsageError(f"{path}: is a folder; name the .onnx file in it")
        images = ImageWords(preprocess, mean, std, scale, channel_order, resize, crop, layout)
        reports = parse_reports(output_format or [], html, FORMATS, verbose=verbose, quiet=quiet)
        shapes = parse_shapes(input_shape or [])
        data_of = data_by_model(calibrate, images, samples=samples)
        overrides = parse_overrides(
            config,
            no_config=no_config,
            select=select,
            extend_select=extend_select,
            ignore=ignore,
            scheme=scheme,
            fail_on=None,
            fail_on_verdict=None,
        )
        shared, jobs = data_of_jobs(plan([old, new], overrides), data_of)
        configs = [job.config for job in jobs]
        read = [known for one in configs for known in (one.source, one.baseline)]
        keep_apart(reports, [old, new, calibrate, *known_data(configs), *read])
        page = any(form is ReportFormat.HTML for form, _ in reports)
        request = CheckRequest(shared, probe, False, shapes, debug=debug, page=page, asked=Asked(max_memory, timeout))
        show_crashes(debug)
        with working():
            with progress_line(quiet=quiet) as progress:
                changes = workflow.diff(jobs[0], jobs[1], request, max_loss, progress)
            for model in (changes.old, changes.new):
                tell("\n".join(model.debug))
            look = report_look(verbose=verbose, paths=show_paths, dated=show_date, quiet=quiet)
            delivered = deliver(reports, lambda form: render(changes, form, look), debug)
    if not (delivered and changes.told):
        raise typer.Exit(NO_ANSWER)
    raise typer.Exit(FINDINGS if changes.fails and not exit_zero else CLEAN)
