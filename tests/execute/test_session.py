"""Why ONNX Runtime refuses a model is always said, and loading one ends."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import FIXTURES
from onnx_cases import as_model, onnx_text

from onnxlint_q.execute.data.sources import RandomSource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.limits import Limits
from onnxlint_q.execute.session import NotRunnableError, Session, _bounded, load_as_deployed
from onnxlint_q.graph import read_model


@pytest.mark.parametrize("text", ["", "  \n", "[ONNXRuntimeError] : 1 : FAIL : "])
def test_a_failure_without_words_is_told_as_such(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    model = as_model(onnx_text("agraph (float[2] x) => (float[2] y) { y = Abs(x) }"))
    with pytest.raises(NotRunnableError) as caught:
        Session(as_stored(model))
    assert str(caught.value) == "no reason given (RuntimeError)"


def slow(*_: object, **__: object) -> None:
    time.sleep(5)


def test_a_session_that_takes_too_long_to_load_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = as_model(onnx_text("agraph (float[2] x) => (float[2] y) { y = Abs(x) }"))
    file = tmp_path / "model.onnx"
    onnx.save(model.proto, file)
    monkeypatch.setattr("onnxruntime.InferenceSession", slow)
    impatient = Limits(seconds_to_load=0.1)
    for load in (lambda: Session(as_stored(model), limits=impatient), lambda: load_as_deployed(file, impatient)):
        start = time.monotonic()
        with pytest.raises(NotRunnableError, match=r"took longer than 0\.1 seconds to load it"):
            load()
        assert time.monotonic() - start < 4


@pytest.mark.parametrize(("length", "made"), [(1 << 10, True), (1 << 26, False)])
def test_constants_of_any_size_are_not_made_at_load(tmp_path: Path, length: int, *, made: bool) -> None:
    """ONNX Runtime would fill 256 MB to store what a few bytes ask for."""
    proto = onnx_text(
        f"agraph (float[1] x) => (float[1] y) <int64[1] n = {{{length}}}, int64[1] first = {{0}}> "
        "{ ones = ConstantOfShape(n) waves = Sin(ones) sums = Add(waves, x) y = Gather(sums, first) }"
    )
    options = _bounded(proto.ByteSize())
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kept = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert ("ConstantOfShape" in kept) is not made


@pytest.mark.skipif(sys.platform != "linux", reason="private memory is told by /proc")
def test_sessions_of_a_large_model_share_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def private_bytes() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in status if line.startswith("RssAnon"))) << 10

    weight = np.random.default_rng(0).standard_normal((4096, 4096), np.float32)
    text = "agraph (float[1, 4096] x) => (float[1, 4096] y) { h = MatMul(x, w) h1 = Relu(h) y = MatMul(h1, w) }"
    made = as_stored(as_model(onnx_text(text, w=weight)))
    monkeypatch.setattr("onnxlint_q.execute.session._MOST_PACKED", 1 << 20)
    before = private_bytes()
    sessions = [Session(made) for _ in range(3)]
    assert private_bytes() < before + weight.nbytes // 2
    sample = {"x": np.ones((1, 4096), np.float32)}
    for session in sessions:
        (found,) = session.run(sample)
        np.testing.assert_allclose(found, np.maximum(sample["x"] @ weight, 0) @ weight, rtol=1e-2, atol=2)


@pytest.mark.parametrize("name", ["unfolded_bn", "qdq_good", "subgraph_if", "fp16", "silu_gate"])
def test_weights_that_are_shared_are_those_that_are_copied(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = as_stored(model := read_model(FIXTURES / "models" / f"{name}.onnx"))
    (sample,) = RandomSource().take(model.inputs, 1)
    copied = Session(made).run(sample)
    monkeypatch.setattr("onnxlint_q.execute.session._MOST_PACKED", 0)
    for one, other in zip(copied, Session(made).run(sample), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


def test_inputs_of_types_that_numpy_does_not_have_are_taken() -> None:
    made = as_stored(as_model(onnx_text("agraph (bfloat16[2] x) => (float[2] y) { y = Cast <to = 1> (x) }")))
    (found,) = Session(made).run({"x": np.asarray([1.5, -3], ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(found, [1.5, -3])
