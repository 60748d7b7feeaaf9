"""Which outputs hold the scores of classes, and what the verdict of a model makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.outputs.output_kind import Holds, find_outputs
from onnxlint_q.analysis.outputs.padding import Rules, find_padding
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.variants.output_error import Comparable, OutputErrorAccumulator, Reference
from onnxlint_q.execute.variants.references import References
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.rule import Example
from onnxlint_q.judge.testing import example_facts, example_model
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.workflow.assembly.outputs import judge_output
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Basis, ModelResult

NET = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 8] x) => (float[N, 8] y)
<float[8, 8] w, float[8] c = {{1, 2, 3, 4, 5, 6, 7, 8}}, int64[1] axes = {{1}}> {{
  h = MatMul(x, w)
{end}
}}
"""


def net(end: str) -> Example:
    return Example(NET.format(end=end), weights=lambda random: {"w": random.normal(size=(8, 8)).astype(np.float32)})


SCORES = {
    "logits": "  y = Add(h, c)",
    "softmax": "  y = Softmax(h)",
    "log softmax, cast": "  s = LogSoftmax(h)\n  y = Cast<to = 1>(s)",
    "softmax spelt out": "  e = Exp(h)\n  s = ReduceSum<keepdims = 1>(e, axes)\n  y = Div(e, s)",
    "logits over a temperature": "  y = Div(h, c)",
    "relu at the end": "  y = Relu(h)",
}
OTHERS = {
    "sigmoid": "  y = Sigmoid(h)",
    "tanh": "  y = Tanh(h)",
    "unit norm": "  n = ReduceL2<axes = [1], keepdims = 1>(h)\n  y = Div(h, n)",
    "normalised": "  y = LpNormalization(h)",
    "batch norm": "  y = BatchNormalization(h, c, c, c, c)",
    "sum of two": "  g = Relu(h)\n  y = Add(g, h)",
}


@pytest.mark.parametrize("end", SCORES.values(), ids=SCORES)
def test_scores_of_classes(end: str) -> None:
    assert example_facts(net(end)).is_classifier


@pytest.mark.parametrize("end", OTHERS.values(), ids=OTHERS)
def test_other_outputs(end: str) -> None:
    assert not example_facts(net(end)).is_classifier


def linted(tmp_path: Path, example: Example, *, probe: bool = False) -> ModelResult:
    onnx.save(example_model(example), tmp_path / "m.onnx")
    data = {"x": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)}
    request = CheckRequest(DataRequest(ArraySource("s", data), 8), probe=probe)
    return lint(tmp_path / "m.onnx", [], Config(), request)


def test_only_a_classifier_is_judged_by_its_largest_value(tmp_path: Path) -> None:
    for end, agrees in (("  y = Add(h, c)", True), ("  y = Tanh(h)", False)):
        result = linted(tmp_path, net(end))
        assert [scheme.basis for scheme in result.schemes] == [Basis.MEASURED] * 2
        assert all((scheme.agreement is not None) is agrees for scheme in result.schemes)


@pytest.mark.parametrize("probe", [False, True])
def test_a_model_without_anything_to_quantise_gets_no_verdict(tmp_path: Path, probe: bool) -> None:
    text = '<ir_version: 8, opset_import: ["" : 13]>\nnet (float[N, 8] x) => (float[N, 8] y) {\n  y = Erf(x)\n}'
    result = linted(tmp_path, Example(text), probe=probe)
    assert [(s.verdict, s.output_sqnr_db) for s in result.schemes] == [(None, None)] * 2
    assert all(scheme.note.startswith("nothing to quantise") for scheme in result.schemes)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def held(text: str, **weights: np.ndarray) -> list[tuple[Holds, int | None]]:
    return [(output.holds, output.axis) for output in find_outputs(as_model(onnx_text(text, **weights)))]


def test_scores_a_position_and_several_outputs() -> None:
    text = """agraph (float[N, 5, 8] x) => (float[N, 5, 6] tags, float[N, 5, 8] state, int64[N, 5] best) {
        state = Tanh(x)
        tags = MatMul(state, w)
        best = ArgMax <axis = -1, keepdims = 0> (tags)
    }"""
    expected = [(Holds.CLASS_SCORES, -1), (Holds.VALUES, None), (Holds.NO_FLOATS, None)]
    assert held(text, w=random(8, 6)) == expected


def test_scores_of_a_picture_are_along_its_channels_only_behind_a_softmax() -> None:
    text = "agraph (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { c = Conv(x, w)  END }"
    assert held(text.replace("END", "y = Softmax <axis = 1> (c)"), w=random(4, 3, 1, 1)) == [(Holds.CLASS_SCORES, 1)]
    assert held(text.replace("END", "y = Identity(c)"), w=random(4, 3, 1, 1)) == [(Holds.VALUES, None)]


ATTENTION = """agraph (float[N, S, 4] x, int64[N, S] given) => (float[N, S, 4] y, float[N, S, S] look) {
    q = MatMul(x, w)
    t = Transpose <perm = [0, 2, 1]> (x)
    s = MatMul(q, t)
    MASK
    look = Softmax <axis = -1> (m)
    h = MatMul(look, x)
    y = MatMul(h, v)
}"""
ADDED = "k = Cast <to = 1> (given)  o = Sub(one, k)  b = Mul(o, far)  u = Unsqueeze(b, axes)  m = Add(s, u)"
CHOSEN = "k = Cast <to = 9> (given)  u = Unsqueeze(k, axes)  m = Where(u, s, far)"
TURNED = "k = Cast <to = 9> (given)  n = Not(k)  u = Unsqueeze(n, axes)  m = Where(u, far, s)"
MASKS = {"added": (ADDED, Rules.FAR_BELOW), "chosen": (CHOSEN, Rules.FALSE), "turned": (TURNED, Rules.TRUE)}


def attention(mask: str) -> onnx.ModelProto:
    constants: dict[str, Any] = {"one": np.float32(1), "far": np.float32(-1e9), "axes": np.asarray([1])}
    return onnx_text(ATTENTION.replace("MASK", mask), w=random(4, 4), v=random(4, 4), **constants)


@pytest.mark.parametrize(("mask", "rules"), MASKS.values(), ids=MASKS)
def test_positions_that_a_mask_rules_out_do_not_count(mask: str, rules: Rules) -> None:
    model = as_model(attention(mask))
    assert [output.holds for output in find_outputs(model)] == [Holds.CLASS_SCORES, Holds.VALUES], "attention is none"
    (found,) = find_padding(model)
    assert found.rules is rules and found.axes == {"y": (1,), "look": (1, 2)}
    given = np.asarray([[1, 1, 0], [1, 0, 0]])
    exact = [random(2, 3, 4), np.abs(random(2, 3, 3))]
    broken = [values.copy() for values in exact]
    broken[0][0, 2], broken[0][1, 1:] = 9.0, -9.0
    errors = OutputErrorAccumulator()
    references = References(model, find_outputs(model))
    errors.add(references.of({"x": random(2, 3, 4), "given": given}, exact), broken)
    assert errors.result().sqnr_db is None, "nothing changed where it counts"
    assert errors.result().outputs[0].agreement == 1.0
    errors.add(references.of({"x": random(2, 3, 4), "given": np.ones_like(given)}, exact), broken)
    assert errors.result().sqnr_db is not None and (errors.result().outputs[0].agreement or 1) < 1


def test_the_worst_output_decides_and_what_rests_is_not_judged(tmp_path: Path) -> None:
    """A state that int8 keeps, scores that it does not, and probabilities that never leave zero."""
    weight = random(8, 8)
    weight[:, 0] *= 1000
    text = """agraph (float[N, 8] x) => (float[N, 8] state, float[N, 8] values, float[N, 8] found) {
        state = Tanh(x)
        h = MatMul(x, w)
        values = Mul(h, small)
        low = Sub(x, far)
        found = Sigmoid(low)
    }"""
    small = np.full(8, 1.0, np.float32)
    small[0] = 1e-6
    onnx.save(onnx_text(text, w=weight, small=small, far=np.float32(10)), tmp_path / "m.onnx")
    data = {"x": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)}
    result = lint(tmp_path / "m.onnx", [], Config(), CheckRequest(DataRequest(ArraySource("s", data), 8)))
    scheme = result.schemes[0]
    assert [output.verdict for output in scheme.outputs] == [Verdict.SURVIVES, Verdict.BREAKS, None]
    assert scheme.verdict is Verdict.BREAKS and scheme.worst is scheme.outputs[1]
    assert "do not exercise it" in scheme.outputs[2].note and "give samples" in scheme.outputs[2].note


def test_an_agreement_has_an_interval_and_rows_of_one_sample_err_together() -> None:
    model = as_model(onnx_text("agraph (float[N, 8] x) => (float[N, 4] y) { y = MatMul(x, w) }", w=random(8, 4)))
    apart, together = OutputErrorAccumulator(), OutputErrorAccumulator()
    references = References(model, find_outputs(model))
    right, wrong = np.eye(4, dtype=np.float32)[[0]], np.eye(4, dtype=np.float32)[[1]]
    for number in range(32):
        apart.add(references.of({}, [right]), [right if number < 23 else wrong])
    for number in range(4):
        rows = right if number < 3 else wrong
        together.add(references.of({}, [np.repeat(right, 8, axis=0)]), [np.repeat(rows, 8, axis=0)])
    (one,), (other,) = apart.result().outputs, together.result().outputs
    assert (one.comparable, one.agreement, one.rows) == (Comparable.YES, 23 / 32, 32)
    assert other.agreement == 0.75 and other.rows < 4.5


def test_a_mask_that_rules_everything_out_leaves_nothing_to_judge(tmp_path: Path) -> None:
    onnx.save(attention(ADDED), tmp_path / "m.onnx")
    arrays = {"x": random(8, 1, 3, 4), "given": np.zeros((8, 1, 3), np.int64)}
    result = lint(tmp_path / "m.onnx", [], Config(), CheckRequest(DataRequest(ArraySource("s", arrays), 4)))
    for scheme in result.schemes:
        assert (scheme.verdict, scheme.basis) == (None, Basis.MEASURED)
        assert "the mask rules out every position" in scheme.note and "the forecast from the file" in scheme.note


def test_what_holds_no_floats_is_never_compared_as_floats() -> None:
    model = as_model(
        onnx_text(
            "agraph (float[N, 8] x) => (float[N, 4] y, int64[N] best) { y = MatMul(x, w)\n best = ArgMax(y) }",
            w=random(8, 4),
        )
    )
    errors = OutputErrorAccumulator()
    scores = random(1, 4)
    # A comparison reads whatever both files hold as float32.
    errors.add(
        References(model, find_outputs(model)).of({}, [scores, np.asarray([3], np.float32)]),
        [scores, np.asarray([0], np.float32)],
    )
    assert [found.comparable for found in errors.result().outputs] == [Comparable.YES, Comparable.NO_FLOATS]


HEAD = """agraph (float[1, 6, 8] x) => (OUT y) {
    b = Exp(x)
    s = Sigmoid(x)
    END
}"""


@pytest.mark.parametrize(
    ("out", "end", "expected"),
    [
        ("float[1, 12, 8]", "y = Concat <axis = 1> (b, s)", [(1, 0, 6, "b", False), (1, 6, 12, "s", True)]),
        ("float[1, 8, 12]", "c = Concat <axis = 1> (b, s)  y = Transpose <perm = [0, 2, 1]> (c)",
         [(2, 0, 6, "b", False), (2, 6, 12, "s", True)]),
        ("float[1, 12, 2, 4]", "c = Concat <axis = 1> (b, s)  y = Reshape(c, to)",
         [(1, 0, 6, "b", False), (1, 6, 12, "s", True)]),
        ("float[1, 18, 8]", "y = Concat <axis = 1> (b, s, s)", [(1, 0, 6, "b", False), (1, 6, 18, "s", True)]),
        ("float[1, 12, 16]", "c = Concat <axis = 1> (b, s)  d = Concat <axis = 1> (b, s)  y = Concat <axis = 2> (c, d)",
         [(1, 0, 6, "b", False), (1, 6, 12, "s", True)]),
        ("float[1, 12, 8]", "y = Concat <axis = 1> (s, s)", []),
        ("float[96]", "c = Concat <axis = 1> (b, s)  y = Reshape(c, flat)", []),
    ],
)  # fmt: skip
def test_what_an_output_joins(out: str, end: str, expected: list[tuple[Any, ...]]) -> None:
    text = HEAD.replace("OUT", out).replace("END", end)
    used = {"to": np.asarray([1, 12, 2, 4]), "flat": np.asarray([96])}
    (output,) = find_outputs(as_model(onnx_text(text, **{k: v for k, v in used.items() if f", {k})" in text})))
    assert [(p.axis, p.start, p.stop, p.held.name, p.held.fraction) for p in output.parts] == expected


def test_a_part_is_judged_by_itself_in_a_run() -> None:
    text = HEAD.replace("OUT", "float[1, 12, 8]").replace("END", "y = Concat <axis = 1> (b, s)")
    outputs = find_outputs(as_model(onnx_text(text)))
    values = np.concatenate([np.full((1, 6, 8), 300.0), np.full((1, 6, 8), 0.4)], axis=1).astype(np.float32)
    values[0, :, 0] *= np.float32(1.2)
    lost = values.copy()
    lost[:, 6:] = 0
    sums = OutputErrorAccumulator()
    sums.add(Reference([values], outputs), [lost])
    error = sums.result()
    assert error.sqnr_db is not None and error.sqnr_db > 50 and error.worst_db == pytest.approx(0)
    judged = judge_output(error.outputs[0], VerdictLevels(), by_class=True)
    assert judged.verdict is Verdict.BREAKS and [part.verdict for part in judged.parts] == [
        Verdict.SURVIVES,
        Verdict.BREAKS,
    ]


def test_a_rescaled_fraction_is_none() -> None:
    text = "agraph (float[1, 8] x) => (float[1, 8] y) { s = Sigmoid(x)  y = Mul(s, far) }"
    (output,) = find_outputs(as_model(onnx_text(text, far=np.float32(320))))
    assert not output.fraction and output.because == "it ends in Sigmoid 's'"
