"""Help texts list what can be chosen from where it is defined: all of it, in its order, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import pytest
import typer

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER, OBSERVERS
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, SCHEMES, SEQUENCE_SCHEMES
from onnxlint_q.cli.words.choices import fill_in
from onnxlint_q.execute.data.preprocess import CHANNEL_ORDERS, DEFAULT_PRESET, LAYOUTS, PRESETS
from onnxlint_q.execute.data.sources import DATA
from onnxlint_q.execute.limits import DEFAULT_SAMPLES
from onnxlint_q.finding import Severity
from onnxlint_q.judge.config import FAILING_VERDICTS, SEVERITIES
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report import ReportFormat
from onnxlint_q.report.fix import FORMATS as FIX_FORMATS
from onnxlint_q.report.quantize import FORMATS as QUANTIZE_FORMATS


def helps(command: str) -> dict[str, str]:
    """Help text by the name of each option."""
    alone = typer.Typer()
    alone.command()(getattr(import_module(f"onnxlint_q.cli.{command}"), command))
    parameters: Iterable[Any] = typer.main.get_command(alone).params
    fill_in(parameters)
    return {parameter.name: parameter.help for parameter in parameters}


def listed(text: str, before: str = "", behind: str = ".") -> list[str]:
    """The words of a list `a, b or c` between two marks."""
    after = text.partition(before)[2] if before else text
    return re.split(r", | or | and ", after.partition(behind)[0])


@pytest.mark.parametrize("command", ["check", "compare"])
def test_choices_are_those_of_the_code(command: str) -> None:
    told = helps(command)
    assert listed(told["preprocess"], "images: ", ";") == list(PRESETS)
    assert f"; {DEFAULT_PRESET} by default." in told["preprocess"]
    assert listed(told["channel_order"], behind=".") == list(CHANNEL_ORDERS)
    assert listed(told["layout"], behind=";") == list(LAYOUTS)
    assert listed(told["output_format"], behind=", with") == list(ReportFormat)
    assert DATA in told["calibrate"]
    assert listed(told["fail_on"], "severity on: ", ";") == list(SEVERITIES)
    assert f"; {Severity.WARNING} by" in told["fail_on"]
    assert listed(told["fail_on_verdict"], "a worse one: ", ";") == list(FAILING_VERDICTS)
    assert f"; {Verdict.BREAKS} by" in told["fail_on_verdict"]


@pytest.mark.parametrize("command", ["fix", "quantize"])
def test_commands_that_write_models_offer_what_there_is(command: str) -> None:
    told = helps(command)
    formats = {"fix": FIX_FORMATS, "quantize": QUANTIZE_FORMATS}[command]
    assert listed(told["output_format"], behind=", with") == list(formats)
    assert listed(told["preprocess"], "images: ", ";") == list(PRESETS)
    assert DATA in told["calibrate"] and f"; {DEFAULT_SAMPLES} by default." in told["samples"]
    assert "as of `check --scheme`" in told["scheme"] and "scheme" in helps("check")
    for name in re.findall(r"int\d[\w-]*", told["scheme"]):
        assert name in SCHEMES


def test_ranges_are_taken_as_the_code_can() -> None:
    for command in ("check", "fix"):
        told = helps(command)
        assert listed(told["observer"], "the data: ", ";") == list(OBSERVERS)
        assert f"; {DEFAULT_OBSERVER} by default." in told["observer"]


def test_schemes_are_those_of_the_code() -> None:
    told = helps("check")
    assert listed(told["scheme"], "`all`: ", ".") == [*SCHEMES, FP16]
    by_default = told["scheme"].partition("By default")[2]
    assert re.findall(r"int\d[\w-]*", by_default) == [scheme.name for scheme in SEQUENCE_SCHEMES]
    assert by_default.index("transformer") > by_default.index(DEFAULT_SCHEMES[-1].name)
