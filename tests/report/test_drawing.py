"""Pictures of a finding: everything lies on its sheet, nothing meets what it should not."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
import samples

from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.html.drawing import drawn, plots
from onnxlint_q.report.html.drawing.graph import BOX, TALL
from onnxlint_q.workflow.results import Channel, Gain, Merged, OnGrid, Picture, Run, Seen, Sight

HOSTILE = '"><script>alert(1)</script>'


def picture(channels: int = 16) -> Picture:
    widths = [50.0, 20.0, *(1.0 / (n + 1) for n in range(channels - 3)), 0.0]
    return Picture(
        tuple(Channel(n, width, n < 2) for n, width in enumerate(widths)),
        5,
        50 / 254,
        OnGrid("weights of a typical channel, number 3", -1.2, 1.2, (0, 3, 0, 5, 1), 0.39, 0.0, 3),
        Merged(-0.18, 0.18, 0, 0.0, 0.39),
        tuple(Gain(n, 0.5, 10.0 ** (-n * 9), 10.0 ** (n - 1), n == 3) for n in range(4)),
        OnGrid("values of x", -3e38, 8.0, (9, 0, 0, 100), 1.3e36, 0.0, 2),
        sight(),
    )


def sight(name: str = "") -> Sight:
    """A residual block whose shortcut passes three layers."""
    kinds = ("Relu", "Conv", "Relu", "Conv", "Add", "Relu")
    nodes = tuple(
        Seen(kind, f"{name}n{n}", f"t{n}", "1×8×4×4", ("8×8×3×3",) if kind == "Conv" else (), n, n == 3)
        for n, kind in enumerate(kinds)
    )
    return Sight(nodes, ((0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 5)))


@pytest.mark.parametrize("channels", [3, 16, 128])
def test_every_mark_lies_on_its_sheet(channels: int) -> None:
    made = plots(picture(channels))
    assert len(made) == 5
    for plot in made:
        for bar in (*plot.bars, *plot.dots):
            assert 0 <= bar.x <= plot.width and -0.1 <= bar.top <= plot.height, plot.title
        for text in plot.texts:
            assert 0 <= text.x <= plot.width and 0 <= text.y <= plot.height, plot.title
        for x1, y1, x2, y2, _ in plot.lines:
            assert all(0 <= x <= plot.width for x in (x1, x2)) and all(0 <= y <= plot.height for y in (y1, y2))


def test_boxes_do_not_meet_and_no_edge_runs_through_one() -> None:
    made = drawn(sight(), {"n1"})
    for one, other in itertools.combinations(made.boxes, 2):
        assert abs(one.x - other.x) >= BOX or abs(one.y - other.y) >= TALL
    assert [box.style for box in made.boxes] == ["", "flagged-node", "", "focus", "", ""]
    # The shortcut goes straight down beside the boxes of the three layers that it passes.
    straight = [re.findall(r"([-\d.]+) [-\d.]+V", path) for path in made.paths]
    bends = [float(x) for found in straight for x in found]
    assert len(bends) == 3
    passed = made.boxes[1:4]
    assert all(not box.x <= x <= box.x + BOX for x, box in zip(bends, passed, strict=True))


def test_a_finding_has_its_pictures_and_names_in_them_are_escaped() -> None:
    (model,) = samples.chained().models
    finding = model.findings[0]
    hostile = replace(picture(), sight=sight(HOSTILE))
    text = render(Run((replace(model, pictures={finding.fingerprint: hostile}),)), ReportFormat.HTML)
    place = text[text.index(f'<li id="f-{finding.fingerprint}"') :].split("</li>\n</ul>", 1)[0]
    assert place.count('<svg class="plot') == 6
    assert "Two weights that become one" in place and "the graph around it" in place.lower()
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in place


def test_a_single_operator_and_nothing_at_all_are_drawn() -> None:
    alone = Sight((Seen("Relu", "", "y", "", (), 0, True),), ())
    made = drawn(alone, ())
    assert len(made.boxes) == 1 and made.paths == () and made.width > BOX
    assert plots(Picture()) == ()
