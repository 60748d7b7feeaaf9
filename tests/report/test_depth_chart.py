"""The network along its depth: one column a layer, marks where the figures are, links both ways."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import samples
import test_inspect_reports
from samples import CHANNEL, TENSOR

from onnxlint_q.finding import Severity, Subject
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.html.depth import Flag, depth_chart, find_spots
from onnxlint_q.report.html.depth.chart import LABELS, TIERS
from onnxlint_q.report.html.depth.spots import MOST
from onnxlint_q.workflow.results import Basis, ModelResult, Run, TensorRole, TensorRow


def deep(layers: int) -> ModelResult:
    """A chain of layers with a Relu behind each, whose weights and results make noise."""
    (model,) = samples.large(layers).models
    tensors = []
    for number, row in enumerate(model.layers):
        depth = number / layers
        tensors.append(TensorRow(row.output, Subject.WEIGHT, row.node, "Conv", 20.0, 0.4 / layers, depth=depth))
        seen = TensorRow(f"relu{number}", Subject.ACTIVATION, f"Relu_{number}", "Relu", 30.0, 0.6 / layers)
        tensors.append(replace(seen, role=TensorRole.LAYER, depth=depth + 0.1 / layers))
    schemes = tuple(
        replace(result, tensors=tuple(tensors), tensors_basis=basis)
        for result, basis in zip(model.schemes, (Basis.MEASURED, Basis.FORECAST), strict=True)
    )
    return replace(model, schemes=schemes)


@pytest.mark.parametrize("layers", [1, 28, 113, MOST, MOST + 1, 2000])
def test_a_network_of_any_depth_has_a_bounded_number_of_columns(layers: int) -> None:
    model = deep(layers)
    spots = find_spots(model)
    assert min(layers, MOST // 2) <= len(spots.columns) <= MOST
    assert [number for spot in spots.columns for number in spot.numbers] == list(range(1, layers + 1))
    for scheme in (TENSOR, CHANNEL):
        weight, result = (sum(spot.shares[scheme][part] for spot in spots.columns) for part in (0, 1))
        assert weight == pytest.approx(0.4) and result == pytest.approx(0.6)


def test_the_page_of_five_thousand_nodes_is_small() -> None:
    assert len(render(Run((deep(1250),)), ReportFormat.HTML).encode()) < 3_000_000


def test_what_a_relu_leaves_is_the_result_of_its_layer() -> None:
    spots = find_spots(deep(4))
    assert len(spots.columns) == 4
    assert spots.places["relu2"] == 2


def test_an_operator_that_is_no_layer_stands_between_its_neighbours() -> None:
    (model,) = samples.costly().models
    labels = [spot.label for spot in find_spots(model).columns]
    assert set(labels) == {"image", "stem", "dw1", "dw2", "head", "attention/Add", "chosen"}


def test_every_mark_lies_within_its_row() -> None:
    for make in samples.ALL.values():
        for model in make().models:
            chart = depth_chart(model, find_spots(model), {}, "s", "l")
            for lane in chart.lanes if chart is not None else ():
                runs = (run for line in lane.lines for run in line.runs)
                for mark in (*lane.bars, *lane.pairs, *(mark for run in runs for mark in run)):
                    assert lane.top - 0.1 <= mark.top <= lane.bottom + 0.1, (lane.title, mark)
                    assert lane.top - 0.1 <= mark.bottom <= lane.bottom + 0.1, (lane.title, mark)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_names_of_flagged_columns_never_meet_and_no_leader_goes_through_one(count: int) -> None:
    model = deep(60)
    spots = find_spots(model)
    flags = {
        column: [Flag("QW001", f"f-{column}", Severity.WARNING, f"a/layer/{column}/weight")] for column in range(count)
    }
    chart = depth_chart(model, spots, flags, "s", "l")
    assert chart is not None
    assert 1 <= len(chart.labels) <= LABELS
    boxes = []
    for label in chart.labels:
        width = 6.2 * len(label.text)
        low = label.x if label.side == "start" else label.x - width
        boxes.append((low, low + width, label))
    assert len({label.y for label in chart.labels}) <= TIERS
    for low, high, label in boxes:
        for _, _, other in boxes:
            if other is not label:
                assert not (other.y == label.y and low < other.x < high)
                assert not (other.y < label.y and low < other.column.x < high)


@pytest.mark.parametrize("name", ["large", "costly"])
def test_leaders_of_names_end_above_the_title_of_the_first_row(name: str) -> None:
    text = render(samples.ALL[name](), ReportFormat.HTML)
    (chart,) = re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL)
    title = min(float(y) for y in re.findall(r'class="lane-title" x="0" y="([\d.]+)"', chart))
    ends = [float(y) for y in re.findall(r'class="leader" d="M[\d.]+ [\d.]+V([\d.]+)"', chart)]
    names = [float(y) for y in re.findall(r'class="flag" .*?y="([\d.]+)"', chart)]
    assert ends and all(max(names) < end <= title - 12 for end in ends)


def test_the_most_costly_finding_is_named_whatever_else_is_flagged() -> None:
    model = deep(60)
    costly = [
        replace(row, share=0.5) if row.tensor == model.layers[20].output and row.kind is Subject.WEIGHT else row
        for row in model.schemes[0].tensors
    ]
    model = replace(model, schemes=(replace(model.schemes[0], tensors=tuple(costly)), model.schemes[1]))
    flags = {column: [Flag("QW001", f"f-{column}", Severity.WARNING, f"layer/{column}")] for column in range(60)}
    chart = depth_chart(model, find_spots(model), flags, "s", "l")
    assert chart is not None and chart.columns[20] in [label.column for label in chart.labels]


def test_chart_row_and_finding_link_to_each_other() -> None:
    text = render(samples.large(), ReportFormat.HTML)
    finding = samples.large().models[0].findings[0]
    node, anchor = finding.location.node, f"f-{finding.fingerprint}"
    place = text[text.index(f'<li id="{anchor}"') :].split("</li>", 1)[0]
    spot, row = re.findall(r'<a href="#(m-1-[sl]-\d+)">in the', place)
    assert f'id="{spot}"' in text and f'<tr id="{row}"' in text
    table = text[text.index(f'<tr id="{row}"') :].split("</tr>", 1)[0]
    assert node in table and f'href="#{spot}"' in table and f'href="#{anchor}"' in table
    chart = text[text.index('<svg class="chart"') :].split("</svg>", 1)[0]
    assert f'href="#{anchor}"' in chart


def test_what_was_measured_is_solid_and_a_forecast_is_hatched() -> None:
    text = render(Run((deep(6),)), ReportFormat.HTML)
    assert text.count('class="bar weight measured"') >= 6 and text.count('class="bar weight forecast"') >= 6
    assert ".bar.forecast { stroke-dasharray" in text


def test_the_scales_of_a_quantised_file_are_drawn_where_they_are() -> None:
    (model,) = samples.quantised().models
    names = ("input", "conv_out", "sum")
    rows = tuple(
        replace(test_inspect_reports.pair(name), tensor=name, codes=f"{name}_q", largest_scale=scale)
        for name, scale in zip(names, (0.01, 1.5, 0.02), strict=True)
    )
    spots = find_spots(replace(model, qparams=rows))
    assert [(spot.label, spot.scale) for spot in spots.columns] == [("input", 0.01), ("conv", 1.5), ("sum", 0.02)]
    chart = depth_chart(replace(model, qparams=rows), spots, {}, "s", "l")
    assert chart is not None and "Scale of each activation" in [lane.title for lane in chart.lanes]
