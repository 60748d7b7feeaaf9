"""The command `compare`: arguments and wiring; no logic."""

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
from onnxlint_q.cli.words import options as shared
from onnxlint_q.execute.limits import DEFAULT_SAMPLES


def compare(
    float_model: Annotated[Path, typer.Argument(metavar="FLOAT", help="The float model.", show_default=False)],
    quantised: Annotated[
        Path, typer.Argument(metavar="QUANTISED", help="The model quantised from it.", show_default=False)
    ],
    calibrate: Annotated[str, typer.Option(help="Run both models on this data: {configured_data}.")],
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
    samples: shared.Samples = DEFAULT_SAMPLES,
    target: shared.Target = None,
    select: shared.Select = None,
    extend_select: shared.ExtendSelect = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = None,
    fail_on_verdict: shared.FailOnVerdict = None,
    exit_zero: shared.ExitZero = False,
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
    debug: shared.Debug = False,
) -> None:
    """Compare a quantised model with its float original, layer by layer: SQNR, QMSE, QCE, QKL and where it jumps.

    Exits 1 if there are findings that matter or the output breaks, 2 if there is no trustworthy answer.
    """
    debug = debugging(debug)
    with errors_as_one_line(debug):
        from onnxlint_q.cli.words.data import data_by_model, known_data
        from onnxlint_q.cli.words.files import keep_apart, parse_reports
        from onnxlint_q.cli.words.images import ImageWords
        from onnxlint_q.cli.words.requests import parse_overrides, parse_shapes
        from onnxlint_q.execute.limits import Asked
        from onnxlint_q.report import ReportFormat
        from onnxlint_q.report.compare import render
        from onnxlint_q.workflow import compare as workflow
        from onnxlint_q.workflow.check import plan

        workflow.check_differ(float_model, quantised)
        images = ImageWords(preprocess, mean, std, scale, channel_order, resize, crop, layout)
        reports = parse_reports(output_format or [], html, verbose=verbose, quiet=quiet)
        shapes = parse_shapes(input_shape or [])
        data_of = data_by_model(calibrate, images, samples=samples, labels=labels)
        overrides = parse_overrides(
            config,
            no_config=no_config,
            select=select,
            extend_select=extend_select,
            ignore=ignore,
            scheme=None,
            fail_on=fail_on,
            fail_on_verdict=fail_on_verdict,
            target=target,
        )
        (job,) = plan([quantised], overrides)
        data = data_of(job.config, job.path)
        assert data is not None  # --calibrate is required
        keep_apart(reports, [float_model, quantised, calibrate, labels, *known_data([job.config]), job.config.source])
        page = any(form is ReportFormat.HTML for form, _ in reports)
        request = workflow.CompareRequest(
            data.source, data.samples, data.labels, shapes, debug, asked=Asked(max_memory, timeout), page=page
        )
        show_crashes(debug)
        look = report_look(verbose=verbose, paths=show_paths, dated=show_date, quiet=quiet)
        with working():
            with progress_line(quiet=quiet) as progress:
                compare_files = workflow.compare if debug else workflow.compare_apart
                comparison = compare_files(float_model, job, request, progress)
            tell("\n".join(comparison.quantized.debug))
            delivered = deliver(reports, lambda form: render(comparison, form, look), debug)
    fails = comparison.quantized.fails
    if not delivered or comparison.quantized.rule_crashed or (comparison.result.verdict is None and not fails):
        raise typer.Exit(NO_ANSWER)
    raise typer.Exit(FINDINGS if fails and not exit_zero else CLEAN)
