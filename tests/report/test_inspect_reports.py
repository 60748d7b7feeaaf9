"""What `inspect` read, in every format: bounded, escaped, aligned, and the same figures in all of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from samples import HOSTILE

from onnxlint_q import __version__
from onnxlint_q.report import ReportFormat, layout
from onnxlint_q.report.formats import Look
from onnxlint_q.report.inspect import FORMATS, render
from onnxlint_q.report.inspect.full import CHANNELS, MOST
from onnxlint_q.report.origin import Origin
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Inspection,
    Rounded,
    RoundedValues,
    Side,
    SideBySide,
    SidePair,
    TensorSheet,
)
from onnxlint_q.workflow.reading.values import (
    ActivationRow,
    CalibrationSummary,
    CodesSeen,
    GainRow,
    NormRow,
    QparamsRow,
    WeightFigures,
    WeightRow,
)
from onnxlint_q.workflow.results import FileFacts


def activation(name: str, high: float = 4.0) -> ActivationRow:
    return ActivationRow(name, "[1, 8]", name, "Conv", -2.0, high, 0.25, 1.5, 0.125, high / 1.5, 0.0235, 85, "uint8")


def pair(name: str, scale: float = 0.02, kind: str = "activation") -> QparamsRow:
    seen = CodesSeen(-1.5, 2.0, 77, 0.031, 0.01, 0.02)
    return QparamsRow(
        name, name, kind, name, "QuantizeLinear", "int8", (scale,), (-3,), 1, None, None, scale, scale, -2.5, 2.6, seen
    )


def channels(name: str) -> QparamsRow:
    scales = (0.01, 0.5, float("nan"))
    return replace(
        pair(name, kind="weight"),
        scale=scales,
        zero_point=(0, 0, 1),
        scales=3,
        axis=0,
        smallest_scale=0.01,
        largest_scale=0.5,
    )


def weight(name: str) -> WeightRow:
    stored, folded = WeightFigures(-1, 1, 0.3, 1.5, 0.7), WeightFigures(-90, 80, 5, 209, 0.01)
    return WeightRow(name, name, name, "Conv", 8, True, 8, stored, folded, (name,), 5)


def norm(name: str) -> NormRow:
    outliers = tuple(GainRow(index, 1.4, 4e-36, 43.1, 257.0 / (index + 1), True) for index in range(5))
    return NormRow(name, name, 8, name, "", -0.5, 1.9, 0.8, 0.5, 0.01, 43.1, 0.17, 257, outliers)


def inspection(names: tuple[str, ...] = ("stem", "head"), path: str = "folder/net.onnx") -> Inspection:
    model = InspectedModel(
        path=path,
        sha256="ab" * 32,
        opset=17,
        format="mixed",
        quantised=True,
        layers=len(names),
        qparams=(*(make(name) for name in names for make in (pair, channels)), pair("b", kind="bias")),
        activations=tuple(map(activation, names)),
        weights=tuple(map(weight, names)),
        norms=tuple(map(norm, names)),
        calibration=CalibrationSummary("folder/data.npz", "arrays", 4, 0, synthetic=True),
        notes=tuple(names[:1]),
    )
    sides = tuple(SidePair(name, Side(name, 2.0), Side(name, 3.0)) for name in names)
    return Inspection(
        (model, replace(model, path="other/net.onnx")),
        side_by_side=SideBySide(
            "range", "activations", (*sides, SidePair("90-100 %", None, None)), sides, "their names"
        ),
        seconds={"read": 0.1},
    )


def one_tensor(name: str) -> Inspection:
    whole = inspection((name,))
    sheet = TensorSheet(
        name,
        (("shape", name),),
        (pair(name),),
        (activation(name),),
        (weight(name),),
        (norm(name),),
        ((3, -1, 2),),
    )
    return replace(whole, models=(replace(whole.models[0], sheet=sheet), whole.models[1]))


def values(*codes: float) -> Inspection:
    told = tuple(Rounded(value, code, 2.5 * code, False) for value, code in zip((7.0, 7.5, 9.0), codes, strict=True))
    done = RoundedValues("head", "int8", 2.5, 24, -380, 257, "the file", told)
    whole = inspection()
    return replace(whole, models=(replace(whole.models[0], rounded=done), whole.models[1]))


def text(read: Inspection, width: int = 100, *, verbose: bool = False) -> str:
    return render(read, ReportFormat.FULL, Look(width, verbose=verbose))


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_lines_fit_and_names_keep_their_ends(width: int, verbose: bool) -> None:
    long = tuple(f"/features/features.{n}/block/block.{n}/Conv_output_with_a_long_name_{n}" for n in range(7))
    for read in (inspection(long), one_tensor(long[0]), values(1, 2, 3)):
        shown = text(read, width, verbose=verbose)
        assert max(map(len, shown.splitlines())) <= width
        if width >= 100 and read.side_by_side is not None and not read.sheets and not read.rounded:
            assert "_name_0" in shown and "/f" in shown


def test_columns_are_aligned() -> None:
    lines = text(inspection()).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Activations"))
    heading, first, second = lines[start + 2 : start + 5]
    end = heading.index("range") + len("range")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in (first, second))


def test_the_worst_come_first_and_the_rest_is_counted() -> None:
    names = tuple(f"t{n}" for n in range(9))
    read = inspection(names)
    rows = tuple(activation(name, high=float(n)) for n, name in enumerate(names))
    read = replace(read, models=(replace(read.models[0], activations=rows),), side_by_side=None, top=3)
    shown = text(read)
    assert "the 3 worst of 9, by range" in shown and "and 6 more; --verbose shows all" in shown
    assert re.findall(r"^  (t\d) ", shown, re.M)[:3] == ["t8", "t7", "t6"]
    assert "all 9, by range" in text(read, verbose=True)


def test_where_the_rest_is_told_is_there() -> None:
    """--verbose shows more than the first screen, but not any number of rows."""
    names = tuple(f"t{n}" for n in range(MOST + 3))
    rows = tuple(map(activation, names))
    read = inspection()
    read = replace(read, models=(replace(read.models[0], activations=rows),), side_by_side=None)
    assert f"and {len(names) - 5} more; --verbose shows all" in text(read)
    assert "and 3 more; the json report has all" in text(read, verbose=True)
    one = one_tensor("stem")
    (sheet,) = one.sheets
    gains = tuple(replace(sheet.norms[0].outliers[0], channel=channel) for channel in range(CHANNELS + 4))
    sheet = replace(sheet, norms=(replace(sheet.norms[0], outliers=gains),))
    one = replace(one, models=(replace(one.models[0], sheet=sheet),))
    assert "and 4 more; --verbose shows all" in text(one)
    whole = text(one, verbose=True)
    assert "4 more" not in whole and re.search(rf"^ +{CHANNELS + 3} ", whole, re.M)


def test_scales_that_are_all_one_are_told_once() -> None:
    blocks = replace(pair("w"), axis=1, block_size=4, scales=8, smallest_scale=0.1, largest_scale=0.1)
    read = inspection()
    read = replace(read, models=(replace(read.models[0], qparams=(blocks,)),), side_by_side=None)
    assert "0.1-0.1" not in text(read) and " 0.1 " in text(read)


def test_values_that_become_one_are_said_to() -> None:
    shown = text(values(27, 27, 28))
    assert "7 and 7.5 become one code, 27: one step is 2.5." in shown
    assert "become one code" not in text(values(27, 28, 29))
    assert "int8, scale 2.5, zero point 24, range -380 to 257; from the file" in shown


def test_biases_are_counted_unless_all_is_asked_for() -> None:
    assert "2 scales" not in text(inspection()) and "1 scale of biases" in text(inspection())
    assert "Scales of biases and other constants" in text(inspection(), verbose=True)


def test_random_samples_are_said_first() -> None:
    for form in (ReportFormat.FULL, ReportFormat.HTML):
        assert "random values, not on data" in render(inspection(), form)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in {"meta", "input", "br", "wbr", "link", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_do_nothing(name: str, form: ReportFormat) -> None:
    for read in (inspection((name, "head"), path=name or "x"), one_tensor(name)):
        shown = render(read, form)
        shown.encode("utf-8")
        assert "\x1b" not in shown and "\u202e" not in shown
        if form is ReportFormat.HTML:
            page = _Page()
            page.feed(shown)
            assert not page.open and page.tags.count("script") == 2 and "img" not in page.tags
        if form is ReportFormat.JSON:
            assert json.loads(shown)["models"]


def test_a_page_is_bounded_and_says_so() -> None:
    names = tuple(f"tensor{n}" for n in range(layout.ROWS + 50))
    shown = render(inspection(names), ReportFormat.HTML)
    assert "50 more rows: in the JSON report" in shown
    assert shown.count('title="tensor7"') <= 12


def test_a_page_names_no_folders() -> None:
    for read in (inspection(), one_tensor("stem"), values(1, 2, 3)):
        assert "folder/" not in render(read, ReportFormat.HTML)


def test_two_files_of_one_name_each_tell_their_own() -> None:
    """A page names no folders, so their names are one."""
    read = one_tensor("stem")
    first, second = read.models
    assert first.sheet is not None and first.path != second.path
    two = replace(read, models=(first, replace(second, sheet=replace(first.sheet, facts=(("shape", "another"),)))))
    for form in (ReportFormat.FULL, ReportFormat.HTML):
        shown = render(two, form).partition('id="data"')[0]
        assert shown.count("another") == 1
    alone = render(read, ReportFormat.HTML)
    assert alone.count("<h2>stem</h2>") == 1


def test_json_has_all_rows_and_every_figure_is_finite() -> None:
    def constant(word: str) -> float:
        raise AssertionError(word)

    names = tuple(f"tensor{n}" for n in range(30))
    told = json.loads(render(inspection(names), ReportFormat.JSON), parse_constant=constant)
    model = told["models"][0]
    assert [len(model[key]) for key in ("qparams", "activations", "weights", "batch_norms")] == [61, 30, 30, 30]
    one, many = model["qparams"][:2]
    assert (one["scale"], one["zero_point"], one["axis"]) == (0.02, -3, None)
    assert (many["scale"], many["zero_point"], many["axis"]) == ([0.01, 0.5, None], [0, 0, 1], 0)
    assert one["observed"] == {
        "low": -1.5,
        "high": 2.0,
        "codes": 77,
        "clipped": 0.031,
        "at_lowest": 0.01,
        "at_highest": 0.02,
    }
    keys = {"tensor", "node", "low", "high", "mean", "std", "zeros"}
    assert keys <= model["activations"][0].keys()
    assert told["side_by_side"]["tensors"][0]["ratio"] == 1.5


def test_every_format_tells_which_file_it_is() -> None:
    read = inspection()
    file = FileFacts(1_900_000, "tf2onnx \x1b[31m 1.9", 7, "team/onnxlint-q.toml")
    first = replace(read.models[0], file=file)
    read = replace(read, models=(first, *read.models[1:]))
    said = " ".join(text(read).split())
    assert f"1.9 MB, IR version 7, by tf2onnx \\x1b[31m 1.9 sha256 {first.sha256}" in said
    told = json.loads(render(read, ReportFormat.JSON))["models"][0]
    assert (told["size"], told["ir_version"], told["sha256"]) == (1_900_000, 7, first.sha256)
    assert told["producer"].startswith("tf2onnx") and json.loads(render(read, ReportFormat.JSON))["tool"]["version"]
    page = render(read, ReportFormat.HTML)
    assert "Provenance" in page and first.sha256 in page and "onnxlint-q.toml" in page and "team/" not in page
    versions = Look(verbose=True, origin=lambda: Origin(versions=(("onnx", "1.17.0"),)))
    assert f"read with onnxlint-q {__version__}, onnx 1.17.0" in render(read, ReportFormat.FULL, versions)
