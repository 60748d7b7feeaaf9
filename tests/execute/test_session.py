"""Why ONNX Runtime refuses a model is always said, and loading one ends."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.limits import Limits
from onnxlint_q.execute.session import NotRunnableError, Session, _bounded, load_as_deployed


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
