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
    select: shared.Select = None,
    extend_select: shared.ExtendSelect = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = None,
    fail_on_verdict: shared.FailOnVerdict = None,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever was found.")] = False,
    output_format: shared.OutputFormat = None,
    html: shared.Html = None,
    config: shared.ConfigFile = None,
    no_config: shared.NoConfig = False,
) -> None:
    """Compare a quantised model with its float original, layer by layer: SQNR, QMSE, QCE, QKL and where it jumps.

    Exits 1 if there are findings that matter or the output breaks, 2 if there is no trustworthy answer.
    """
    with errors_as_one_line():
        from onnxlint_q.cli.requests import configured, keep_apart, parse_preprocessing, parse_reports, split_words
        from onnxlint_q.execute.data.sources import open_source
        from onnxlint_q.judge.config import parse_fail_on
        from onnxlint_q.judge.registry import load_rules
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
        keep_apart(reports, [float_model, quantised, calibrate, labels, config])
        words = split_words(select), split_words(extend_select), split_words(ignore)
        settings = configured(quantised, config, no_config, words)
        level = parse_fail_on(fail_on) if fail_on is not None else settings.fail_on
        rules = settings.build([entry.rule for entry in load_rules()])
        request = CompareRequest(open_source(calibrate, how), samples, labels)
        with progress_line() as progress:
            found = compare_files(float_model, quantised, rules, settings, request, progress)
        for report_format, destination in reports:
            deliver(render(found, report_format, terminal_look()), destination)
    model = found.quantized
    if model.rule_crashed or (found.result.verdict is None and not model.fails(level)):
        raise typer.Exit(NO_ANSWER)
    raise typer.Exit(FINDINGS if model.fails(level) and not exit_zero else CLEAN)
