"""What a page draws of findings: the channels that set a scale, what is left of the others, and the graph around."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import pytest
from conftest import FIXTURES
from onnx_cases import as_model, onnx_text

from onnxlint_q.judge.config import Overrides
from onnxlint_q.workflow import check as workflow
from onnxlint_q.workflow.pictures.sight import MOST, sight_of
from onnxlint_q.workflow.record import CheckRequest
from onnxlint_q.workflow.results import ModelResult, Picture, Sight


@cache
def checked(name: str, *, page: bool = True) -> ModelResult:
    (job,) = workflow.plan([FIXTURES / "models" / f"{name}.onnx"], Overrides())
    return workflow.lint(job.path, job.rules, job.config, CheckRequest(page=page))


def pictures(name: str, code: str) -> Mapping[str, Picture]:
    model = checked(name)
    return {f.location.node: model.pictures[f.fingerprint] for f in model.findings if f.code == code}


def test_pictures_are_taken_for_a_page_only() -> None:
    assert checked("near_zero_variance").pictures
    assert not checked("near_zero_variance", page=False).pictures
    assert checked("near_zero_variance").file.size == (FIXTURES / "models" / "near_zero_variance.onnx").stat().st_size


def test_the_channels_that_a_finding_is_about_are_marked_and_the_scale_is_that_of_the_widest() -> None:
    (finding,) = [one for one in checked("near_zero_variance").findings if one.code == "QB002"]
    (picture,) = pictures("near_zero_variance", "QB002").values()
    widths = [one.width for one in picture.channels]
    assert widths == sorted(widths, reverse=True)
    assert finding.cure is not None
    assert {one.index for one in picture.channels if one.marked} >= set(finding.cure.channels)
    assert picture.half_step == pytest.approx(widths[0] / 254)
    assert picture.weight is not None and picture.weight.step == pytest.approx(widths[0] / 127)


def test_two_weights_that_become_one_have_one_code_and_lie_within_a_step() -> None:
    for name in ("near_zero_variance", "depthwise_spread"):
        for picture in checked(name).pictures.values():
            if picture.merged is not None:
                pair = picture.merged
                assert pair.low < pair.high <= pair.low + pair.step * (1 + 1e-9)
                assert round(pair.low / pair.step) == round(pair.high / pair.step) == pair.code
                assert pair.value == pytest.approx(pair.code * pair.step)


def test_a_histogram_holds_every_weight_of_its_channel() -> None:
    (picture,) = pictures("near_zero_variance", "QB002").values()
    assert picture.weight is not None
    assert sum(picture.weight.counts) == 9
    assert 1 <= picture.weight.codes <= 9


def test_gains_are_those_of_the_batch_norm() -> None:
    (finding,) = [one for one in checked("near_zero_variance").findings if one.code == "QB002"]
    (picture,) = pictures("near_zero_variance", "QB002").values()
    assert picture.gains and any(one.marked for one in picture.gains)
    epsilon = finding.metrics["epsilon"]
    assert isinstance(epsilon, float)
    for one in picture.gains:
        assert one.gain == pytest.approx(abs(one.gamma) / np.sqrt(one.variance + epsilon))


def graph(text: str, focus: str) -> Sight:
    model = as_model(onnx.shape_inference.infer_shapes(onnx_text(text)))
    (node,) = [one for one in model.nodes if one.name == focus]
    return sight_of(model, node)


def names(sight: Sight) -> list[str]:
    return [node.name for node in sight.nodes]


RESIDUAL = """g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
  [a] a0 = Relu(x)  [b] b0 = Sigmoid(a0)  [c] c0 = Tanh(b0)  [d] d0 = Add(c0, a0)  [e] y = Relu(d0) }"""


def test_a_residual_is_drawn_with_both_of_its_ways() -> None:
    sight = graph(RESIDUAL, "c")
    assert names(sight) == ["a", "b", "c", "d", "e"]
    labels = [(sight.nodes[start].name, sight.nodes[end].name) for start, end in sight.edges]
    assert set(labels) == {("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e")}
    assert [node.rank for node in sight.nodes] == [0, 1, 2, 3, 4]
    assert [node.focus for node in sight.nodes] == [False, False, True, False, False]
    assert sight.nodes[3].shape == "1×4×8×8"


def test_readers_of_a_shared_tensor_that_lead_elsewhere_are_counted_and_not_drawn() -> None:
    fan = " ".join(f"[r{n}] o{n} = Relu(m)" for n in range(30))
    outputs = ", ".join(f"float[4] o{n}" for n in range(30))
    sight = graph(f"g (float[4] x) => ({outputs}) {{ [mask] m = Neg(x) {fan} }}", "r3")
    assert names(sight) == ["mask", "r3"]
    assert sight.nodes[0].hidden_after >= 5


def test_a_drawing_is_bounded() -> None:
    parts = ["[n0] t0 = Relu(x)"]
    parts += [f"[n{n}] t{n} = Add(t{n - 1}, t{max(n - 2, 0)})" for n in range(1, 60)]
    sight = graph(f"g (float[4] x) => (float[4] t59) {{ {' '.join(parts)} }}", "n30")
    assert len(sight.nodes) <= MOST
    assert sum(node.focus for node in sight.nodes) == 1
