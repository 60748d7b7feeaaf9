"""The command `check`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli.terminal.progress import progress_line
from onnxlint_q.cli.terminal.streams import (
    CLEAN,
    FINDINGS,
    NO_ANSWER,
    complain,
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
from onnxlint_q.cli.words.choices import one_of
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.limits import LEAST_PROVING_SECONDS, MOST_SAMPLES, PROVING, TIMES_PLAIN


def check(
    models: Annotated[list[str], typer.Argument(help="ONNX files, or folders to search for them.")],
    calibrate: Annotated[
        str | None,
        typer.Option(help="Run the model on this data: {configured_data}."),
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
            help="Number of samples to take ranges from, and as many others for the verdict; {samples} by default.",
        ),
    ] = None,
    observer: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.one("observers"), help="How to take activation ranges from the data: {observers}."
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            help="Calibrate on so many subsets: shows the spread, compares observers, tells if more samples help.",
        ),
    ] = None,
    prove: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.one("proving"),
            help=f"How much to prove with the data: {one_of(PROVING)}. The budget for claims, remedies and rewrites is "
            f"{TIMES_PLAIN} times plain inference of the samples, at least {LEAST_PROVING_SECONDS:g} s.",
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Without data: run the model on synthetic inputs and measure each layer.")
    ] = False,
    fix_preview: Annotated[
        bool, typer.Option("--fix-preview", help="With --calibrate, try what `fix` would do to the model.")
    ] = False,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.one("measures"),
            help="`layers`: with --calibrate, quantise each layer alone: its weight, its result, and both.",
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.several("schemes"),
            help="Schemes to judge, separated by commas, or `all`: {schemes}. By default those of the "
            "configuration, else those people run on such a network: int8-per-tensor and int8-per-channel; for a "
            "transformer or a recurrent network int8-dynamic and int4-blocks as well.",
        ),
    ] = None,
    target: shared.Target = None,
    select: shared.Select = None,
    extend_select: shared.ExtendSelect = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = None,
    fail_on_verdict: shared.FailOnVerdict = None,
    exit_zero: shared.ExitZero = False,
    baseline: shared.Baseline = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what is found to this baseline, and exit with 0."),
    ] = None,
    prune_baseline: Annotated[
        bool, typer.Option("--prune-baseline", help="Take out of the baseline what is gone from the models.")
    ] = False,
    output_format: shared.OutputFormat = None,
    html: shared.Html = None,
    show_paths: shared.ShowPaths = False,
    show_date: shared.ShowDate = False,
    config: shared.ConfigFile = None,
    no_config: shared.NoConfig = False,
    verbose: shared.Verbose = False,
    quiet: shared.Quiet = False,
    max_memory: shared.MaxMemory = None,
    timeout: shared.Timeout = None,
    jobs: Annotated[
        str,
        typer.Option(
            metavar="auto|N|dask:ADDRESS",
            help="Models to lint at once: processes on this machine, or the workers of a dask scheduler. By default as "
            "many processes as pay where nothing is run, else one.",
        ),
    ] = "auto",
    debug: shared.Debug = False,
) -> None:
    """Lint models. Exits with 1 if a finding or a verdict fails a model, with 2 if there is no trustworthy answer."""
    debug = debugging(debug)
    with errors_as_one_line(debug):
        from onnxlint_q.cli.words.data import data_by_model, data_of_jobs, known_data
        from onnxlint_q.cli.words.files import find_models, keep_apart, parse_baselines, parse_reports
        from onnxlint_q.cli.words.images import ImageWords
        from onnxlint_q.cli.words.requests import parse_overrides, parse_shapes
        from onnxlint_q.execute.limits import Asked
        from onnxlint_q.report import ReportFormat, render, write
        from onnxlint_q.workflow import check as workflow
        from onnxlint_q.workflow.many.spread import Places
        from onnxlint_q.workflow.record import CheckRequest

        images = ImageWords(preprocess, mean, std, scale, channel_order, resize, crop, layout)
        reports = parse_reports(output_format or [], html, verbose=verbose, quiet=quiet)
        shapes = parse_shapes(input_shape or [])
        data_of = data_by_model(
            calibrate,
            images,
            samples=samples,
            observer=observer,
            trials=trials,
            measure=measure,
            labels=labels,
            prove=prove,
        )
        if fix_preview and calibrate is None:
            raise UsageError(
                "--fix-preview has no effect without data; give it with --calibrate, or run `onnxlint-q fix`"
            )
        overrides = parse_overrides(
            config,
            no_config=no_config,
            select=select,
            extend_select=extend_select,
            ignore=ignore,
            scheme=scheme,
            fail_on=fail_on,
            fail_on_verdict=fail_on_verdict,
            target=target,
            baseline=baseline,
            write_baseline=write_baseline,
        )
        shared, planned = data_of_jobs(workflow.plan(find_models(models), overrides), data_of)
        configs = [job.config for job in planned]
        written = parse_baselines(configs, baseline, write_baseline, prune=prune_baseline)
        read = [known for config in configs for known in (config.source, config.baseline)]
        made = [(ReportFormat.JSON, str(write_baseline))] if write_baseline is not None else []
        data = [calibrate, labels, *known_data(configs)]
        keep_apart([*reports, *made], [*(job.path for job in planned), *data, *read])
        page = any(form is ReportFormat.HTML for form, _ in reports)
        request = CheckRequest(
            shared, probe, fix_preview, shapes, debug=debug, page=page, asked=Asked(max_memory, timeout)
        )
        running = any(job.asked(request).runs for job in planned)
        places = Places.named(jobs, workflow.foreseen_seconds(planned), running=running)
        show_crashes(debug)
        look = report_look(verbose=verbose, paths=show_paths, dated=show_date, quiet=quiet)
        with working():
            with progress_line(quiet=quiet) as progress:
                run = workflow.check(planned, request, progress, places)
            for failure in run.failures:
                complain(failure.message)
                tell(failure.traceback)
            for model in run.models:
                tell("\n".join(model.debug))
            if run.trustworthy:
                for file in written:
                    known = workflow.renewed(file, planned, run, prune=prune_baseline)
                    write(known.text(), file)
                    if not quiet:
                        tell(f"wrote {file}: {known.summary}")
            told = [report for report in reports if run.models or not report[0].for_people]
            delivered = deliver(told, lambda form: render(run, form, look), debug)
    if not (run.trustworthy and delivered):
        raise typer.Exit(NO_ANSWER)
    passes = exit_zero or write_baseline is not None or not run.fails
    raise typer.Exit(CLEAN if passes else FINDINGS)
