"""The command `inspect`: arguments and wiring; no logic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

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
from onnxlint_q.cli.words import choices, completion
from onnxlint_q.cli.words import options as shared


class Command(choices.Command):
    """All numbers behind `--values` are its own; a negative one would be taken for an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words as typed, numbers behind `--values` made one."""
        return super().parse_args(ctx, list(_numbers_together(args)))


def _numbers_together(args: Sequence[str]) -> Iterator[str]:
    """`--values -7 7.5` as `--values=-7,7.5`."""
    left = list(args)
    while left:
        word = left.pop(0)
        name, _, numbers = word.partition("=")
        if name == "--values":
            given = [numbers] if numbers else []
            while left and _reads_as_number(left[0]):
                given.append(left.pop(0))
            word = f"--values={','.join(given)}" if given else word
        yield word


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def inspect(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="The model, and if wanted another to show beside it.")
    ],
    calibrate: Annotated[
        str | None, typer.Option(help="Run samples and tell what each tensor holds: {configured_data}.")
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
        int | None, typer.Option(min=1, max=1_000_000, help="How many samples to run; 32 by default.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Rows of each table, the worst first.")] = 5,
    by: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.one("columns"),
            help="Column to sort by: {columns}. A table without it, and every table by default, has its own.",
        ),
    ] = None,
    tensor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tell everything about this tensor, or this operator, only.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBERS",
            help="What these values become at the scale and zero point of --tensor, or of the worst activation.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All rows of every table.")] = False,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.one("inspect_formats"),
            help="{inspect_formats}, with =FILE to write a file; can be repeated.",
        ),
    ] = None,
    html: shared.Html = None,
    show_paths: shared.ShowPaths = False,
    show_date: shared.ShowDate = False,
    config: shared.ConfigFile = None,
    no_config: shared.NoConfig = False,
    max_memory: shared.MaxMemory = None,
    timeout: shared.Timeout = None,
    debug: shared.Debug = False,
) -> None:
    """Show what stands in a model: scales and zero points, weights, gammas; with --calibrate, what its tensors hold.

    Judges nothing: exits 0, or 2 if there is no answer.
    """
    debug = debugging(debug)
    with errors_as_one_line(debug):
        from onnxlint_q.cli.words.data import data_for_all, known_data
        from onnxlint_q.cli.words.files import keep_apart, parse_inspected, parse_reports
        from onnxlint_q.cli.words.images import ImageWords
        from onnxlint_q.cli.words.requests import check_config, parse_shapes, parse_values
        from onnxlint_q.execute.limits import Asked
        from onnxlint_q.judge.config import Overrides
        from onnxlint_q.report.inspect import FORMATS, render
        from onnxlint_q.workflow import inspect as workflow

        paths = parse_inspected(models)
        images = ImageWords(preprocess, mean, std, scale, channel_order, resize, crop, layout)
        reports = parse_reports(output_format or [], html, FORMATS, verbose=verbose)
        overrides = Overrides(file=check_config(config, no_config=no_config), search=not no_config)
        data, configs = data_for_all(paths, overrides, calibrate, images, samples=samples)
        sources = [one.source for one in configs]
        keep_apart(reports, [*paths, calibrate, *known_data(configs), *sources])
        request = workflow.InspectRequest(
            source=data.source if data is not None else None,
            samples=data.samples if data is not None else 0,
            top=top,
            by=by or "",
            tensor=tensor or "",
            values=parse_values(values),
            input_shapes=parse_shapes(input_shape or []),
            asked=Asked(max_memory, timeout),
            configuration=next(filter(None, sources), None),
        )
        show_crashes(debug)
        look = report_look(verbose=verbose, paths=show_paths, dated=show_date)
        with working():
            with progress_line() as progress:
                read = workflow.inspect if debug else workflow.inspect_apart
                inspection = read(paths, request, progress)
            delivered = deliver(reports, lambda form: render(inspection, form, look), debug)
    if not delivered:
        raise typer.Exit(NO_ANSWER)
