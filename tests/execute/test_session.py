"""Why ONNX Runtime refuses a model is always said."""

from __future__ import annotations

import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.session import NotRunnableError, Session


@pytest.mark.parametrize("text", ["", "  \n", "[ONNXRuntimeError] : 1 : FAIL : "])
def test_a_failure_without_words_is_told_as_such(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    model = as_model(onnx_text("agraph (float[2] x) => (float[2] y) { y = Abs(x) }"))
    with pytest.raises(NotRunnableError) as caught:
        Session(as_stored(model))
    assert str(caught.value) == "no reason given (RuntimeError)"
