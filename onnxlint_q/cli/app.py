"""The door: arguments, wiring, exit codes; no logic.

Exit codes: 0 clean; 1 findings at or above --fail-on; 2 no trustworthy answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from onnxlint_q import __version__
from onnxlint_q.cli import options as shared
from onnxlint_q.cli.compare import compare
from onnxlint_q.cli.streams import (
    CLEAN,
    FINDINGS,
    NO_ANSWER,
    complain,
    deliver,
    drop_output,
    errors_as_one_line,
    progress_line,
    say,
    told,
)
from onnxlint_q.errors import UsageError

if TYPE_CHECKING:
    from onnxlint_q.report import ReportFormat
    from onnxlint_q.workflow.check import Request
    from onnxlint_q.workflow.results import ModelResult


class _CheckByDefault(typer.core.TyperGroup):
    """`onnxlint-q model.onnx` is `onnxlint-q check model.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version", "--install-completion", "--show-completion", *self.commands}
        if args and args[0] not in own:
            args = ["check", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_CheckByDefault,
    name="onnxlint-q",
    help="Says before you ship whether an ONNX model survives INT8, where it breaks, why, and what to do; "
    "then proves it by running the model. `onnxlint-q model.onnx` is short for `onnxlint-q check model.onnx`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        with errors_as_one_line():
            say(f"onnxlint-q {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def check(
    models: Annotated[list[str], typer.Argument(help="ONNX files, or folders that are searched for them.")],
    calibrate: Annotated[
        str | None,
        typer.Option(help="Test the findings on data: an .npz, an .npy, a folder of images or of .npz, or `random`."),
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
    observer: Annotated[
        str,
        typer.Option(
            help="How ranges of activations are taken from the data: min-max, moving-average, moving-average-0.9, "
            "percentile, tf-percentile, entropy, mse."
        ),
    ] = "min-max",
    trials: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="Calibrate again on so many disjoint subsets: spread, observers compared, effect of more samples.",
        ),
    ] = 0,
    probe: Annotated[
        bool, typer.Option("--probe", help="Without data: run the model on synthetic inputs, layer by layer.")
    ] = False,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="`layers`: with --calibrate, quantise every layer alone, its weight, its result and both."),
    ] = None,
    scheme: Annotated[
        str,
        typer.Option(
            help="Schemes to judge, with commas between, or `all`: int8-per-tensor, int8-per-channel, int8-symmetric, "
            "int16-activations, int4-weights, fp8."
        ),
    ] = "int8-per-tensor,int8-per-channel",
    select: Annotated[
        list[str] | None, typer.Option(help="Rules to run instead of all: codes, prefixes, names.")
    ] = None,
    extend_select: Annotated[list[str] | None, typer.Option(help="Rules to run as well.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Rules not to run.")] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(help="Lowest severity that makes the exit code 1: error, warning, info or none."),
    ] = None,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever was found.")] = False,
    output_format: shared.OutputFormat = None,
    html: shared.Html = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file, instead of the one that is found.")] = None,
    no_config: Annotated[bool, typer.Option("--no-config", help="Look for no configuration file.")] = False,
) -> None:
    """Lint models: report findings, exit 1 if there are any that matter, 2 if there is no trustworthy answer."""
    with errors_as_one_line():
        from onnxlint_q.cli.requests import (
            find_models,
            keep_apart,
            parse_preprocessing,
            parse_reports,
            parse_request,
            split_words,
        )

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
        request = parse_request(
            scheme, calibrate, how, samples, observer=observer, trials=trials, probe=probe, measure=split_words(measure)
        )
        words = split_words(select), split_words(extend_select), split_words(ignore)
        paths = find_models(models)
        keep_apart(reports, [*paths, calibrate, config])
        code = _check(paths, request, reports, words, fail_on, config, no_config)
    raise typer.Exit(CLEAN if exit_zero and code == FINDINGS else code)


app.command()(compare)


@app.command()
def rule(
    code: Annotated[str | None, typer.Argument(help="Code or name of a rule.")] = None,
    all_rules: Annotated[bool, typer.Option("--all", help="List every rule.")] = False,
) -> None:
    """Explain a rule, or list all of them."""
    with errors_as_one_line():
        from onnxlint_q.judge.explain import explain, listing
        from onnxlint_q.judge.registry import load_rules

        rules = load_rules()
        if all_rules == (code is not None):
            raise UsageError("name one rule, or pass --all")
        say((listing(rules) if code is None else explain(rules, code)) + "\n")


@app.command("config")
def show_config(
    model: Annotated[Path, typer.Argument(help="The configuration that applies to this path.")] = Path(),
    show: Annotated[bool, typer.Option("--show", help="Print the settings with what they come from.")] = True,
    config: Annotated[Path | None, typer.Option(help="This file instead.")] = None,
) -> None:
    """Show the configuration that applies to a model."""
    with errors_as_one_line():
        from onnxlint_q.judge.config import find_config, read_config
        from onnxlint_q.judge.explain import settings
        from onnxlint_q.judge.registry import load_rules

        found = read_config(config) if config else find_config(model)
        if show:
            say(settings(found, [entry.rule for entry in load_rules()]) + "\n")


def main() -> None:
    """Entry point of the console script."""
    # A stream that was closed before we came would be None here, and its descriptor would go to the next open file.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        app()
    except OSError as error:  # typer writes the help itself
        drop_output()
        complain(told(error))
        sys.exit(NO_ANSWER)


def _check(
    paths: Sequence[Path],
    request: Request,
    reports: Sequence[tuple[ReportFormat, str | None]],
    words: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    fail_on: str | None,
    config_path: Path | None,
    no_config: bool,
) -> int:
    from onnxlint_q.cli.requests import configured
    from onnxlint_q.judge.config import parse_fail_on
    from onnxlint_q.judge.registry import load_rules
    from onnxlint_q.report import render, terminal_look
    from onnxlint_q.workflow.check import lint
    from onnxlint_q.workflow.results import Failure, Run

    known = [entry.rule for entry in load_rules()]
    level = parse_fail_on(fail_on) if fail_on is not None else None
    results: list[ModelResult] = []
    failures: list[Failure] = []
    failing = False
    with progress_line() as progress:
        for path in paths:
            try:
                config = configured(path, config_path, no_config, words)
                result = lint(path, config.build(known), config, request, progress)
            except UsageError:
                raise
            except Exception as error:  # whatever one model brings about, the others are still linted
                failures.append(Failure(str(path), told(error, path)))
                continue
            results.append(result)
            failing |= result.fails(config.fail_on if fail_on is None else level)
    for failure in failures:
        complain(failure.message)
    run = Run(tuple(results), tuple(failures))
    if results:
        for report_format, destination in reports:
            deliver(render(run, report_format, terminal_look()), destination)
    if failures or any(result.rule_crashed for result in results):
        return NO_ANSWER
    return FINDINGS if failing else CLEAN
