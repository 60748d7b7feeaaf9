"""Outputs that are as long as values say are compared in front of the step that decides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.judge.config import Overrides
from onnxlint_q.workflow.check import lint, plan
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Basis, ModelResult

RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> npt.NDArray[np.float32]:
    return np.asarray(RANDOM.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])), np.float32)


def detector() -> onnx.ModelProto:
    """Boxes that pass a threshold and hide no better one; and the scores of all, beside them."""
    return onnx_text(
        """g (float[1, 3, 16, 16] x) => (float[D, 4] boxes, float[1, 1, 64] scores) {
            a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, stem) b = Relu(a)
            raw = Conv(b, head) rows = Reshape(raw, to) turned = Transpose <perm = [0, 2, 1]> (rows)
            corners, logits = Split <axis = 2> (turned, parts)
            scored = Transpose <perm = [0, 2, 1]> (logits) scores = Sigmoid(scored)
            kept = NonMaxSuppression(corners, scores, most, overlap, least)
            which = Gather <axis = 1> (kept, last)
            all = Squeeze(corners, front) boxes = Gather <axis = 0> (all, which)
        }""",
        stem=weight(8, 3, 3, 3),
        head=weight(5, 8, 1, 1),
        to=np.asarray([1, 5, 64]),
        parts=np.asarray([4, 1]),
        most=np.asarray([20]),
        overlap=np.asarray([0.9], np.float32),
        least=np.asarray([0.5], np.float32),
        last=np.asarray(2),
        front=np.asarray([0]),
    )


def speech(behind: str, longest: int = 50) -> onnx.ModelProto:
    """A duration is predicted, and what follows is as long."""
    return onnx_text(
        f"""g (float[1, 8] x) => (float[U, 6] y) {{
            a = MatMul(x, w) h = Relu(a) d = MatMul(h, v) s = ReduceSum(d) p = Abs(s) e = Mul(p, fine) c = Ceil(e)
            n = Cast <to = 7> (c) r = Min(n, most) m = Max(r, least) o = Reshape(m, one)
            size = Concat <axis = 0> (o, width)
            z = Expand(h, size) {behind} }}""",
        w=weight(8, 6),
        v=weight(6, 2),
        fine=np.asarray(longest / 4, np.float32),
        most=np.asarray(longest),
        least=np.asarray(1),
        one=np.asarray([1]),
        width=np.asarray([6]),
        again=weight(6, 6),
    )


def fronts(proto: onnx.ModelProto) -> dict[str, tuple[str, tuple[str, ...]]]:
    measured = measure(as_model(proto), DEFAULT_SCHEMES)
    return {name: (front.node.op_type, front.tensors) for name, front in measured.fronts.items()}


def result(proto: onnx.ModelProto, folder: Path, request: CheckRequest) -> ModelResult:
    onnx.save(proto, folder / "m.onnx")
    (job,) = plan([folder / "m.onnx"], Overrides(search=False))
    return lint(job.path, job.rules, job.config, request)


def test_what_the_deciding_step_reads_is_in_front() -> None:
    assert fronts(detector()) == {"boxes": ("NonMaxSuppression", ("corners", "scores"))}
    assert fronts(speech("y = Tanh(z)")) == {"y": ("Expand", ("h", "e"))}


def test_a_layer_behind_would_not_be_looked_at() -> None:
    assert fronts(speech("y = MatMul(z, again)")) == {}


def test_a_length_that_only_shapes_decide_is_no_matter() -> None:
    proto = onnx_text(
        """g (float[1, 8] x) => (float[A, 8] y) { a = MatMul(x, w) s = Shape(a) n = Gather <axis = 0> (s, last)
            o = Unsqueeze(n, front) t = Concat <axis = 0> (o, o) z = Expand(a, t) y = Relu(z) }""",
        w=weight(8, 8),
        last=np.asarray(1),
        front=np.asarray([0]),
    )
    assert fronts(proto) == {}


def test_a_run_compares_it_in_its_place(tmp_path: Path) -> None:
    source = ArraySource("data", {"x": RANDOM.standard_normal((8, 3, 16, 16)).astype(np.float32)})
    for request, basis in (
        (CheckRequest(probe=True), Basis.PROBE),
        (CheckRequest(DataRequest(source, layers=True)), Basis.MEASURED),
    ):
        found = result(detector(), tmp_path, request)
        assert not [finding for finding in found.findings if finding.code.startswith("QX")]
        for scheme in found.schemes:
            assert (scheme.basis, scheme.verdict is not None) == (basis, True)
            assert [output.name for output in scheme.outputs] == ["corners", "scores"]
            assert all(output.sqnr_db is not None for output in scheme.outputs)
        note = "output 'boxes' is as long as the NonMaxSuppression 'kept' decides: what"
        assert any(said.startswith(note) for said in found.notes)


def test_layers_are_not_probed_where_nothing_can_be_compared(tmp_path: Path) -> None:
    """A layer comes behind the duration, which is counted too finely for int8."""
    found = result(speech("y = MatMul(z, again)", 10_000), tmp_path, CheckRequest(probe=True))
    assert "probe: the outputs change their length when quantised: layers were not probed" in found.notes
    assert all(row.probe is None for row in found.layers)
