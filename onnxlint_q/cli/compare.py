"""The command `compare`: arguments and wiring; no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxlint_q.cli import options as shared
from onnxlint_q.cli.streams import CLEAN, FINDINGS, NO_ANSWER, deliver, errors_as_one_line, progress_line


def compare(
    float_model: Annotated[Path, typer.Argument(metavar="FLOAT", help="The float model.", show_default=False)],
    quantised: Annotated[
        Path, typer.Argument(metavar="QUANTISED", help="A model that was quantised from it.", show_default=False)
    ],
    calibrate: Annotated[
        str, typer.Option(help="Samples to run: an .npz, an .npy, a folder of images or of .npz, or `random`.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(help="Classes of the samples: lines of `file name, class index`, or an .npy of integers."),
    ] = None,
    preprocess: shared.Preprocess = "imagenet",
    mean: shared.Mean = None,
    std: shared.Std = None,
    scale: shared.Scale = None,
    channel_order: shared.ChannelOrder = None,
    resize: shared.Resize = None,
    crop: shared.Crop = None,
    layout: shared.Layout = None,
    samples: shared.Samples = 32,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever was found.")] = False,
    output_format: shared.OutputFormat = None,
    html: shared.Html = None,
) -> None:
    """Compare a quantised model with its float original, layer by layer: SQNR, QMSE, QCE, QKL and where it jumps.

    Exits 1 if the error jumps somewhere or the output does not survive, 2 if there is no trustworthy answer.
    """
    with errors_as_one_line():
        from onnxlint_q.cli.requests import keep_apart, parse_preprocessing, parse_reports
        from onnxlint_q.execute.data.sources import open_source
        from onnxlint_q.report import terminal_look
        from onnxlint_q.report.compare import render
        from onnxlint_q.workflow.compare import CompareRequest
        from onnxlint_q.workflow.compare import compare as compare_files

        how = parse_preprocessing(
            preprocess,
            mean=mean,
            std=std,
            scale=scale,
            channel_order=channel_order,
            resize=resize,
            crop=crop,
            layout=layout,
        )
        reports = parse_reports(output_format or [], html)
        keep_apart(reports, [float_model, quantised, calibrate, labels])
        request = CompareRequest(open_source(calibrate, how), samples, labels)
        with progress_line() as progress:
            found = compare_files(float_model, quantised, request, progress=progress)
        for report_format, destination in reports:
            deliver(render(found, report_format, terminal_look()), destination)
    if found.verdict is None and not found.jumps:
        raise typer.Exit(NO_ANSWER)
    raise typer.Exit(CLEAN if exit_zero or found.quiet else FINDINGS)
