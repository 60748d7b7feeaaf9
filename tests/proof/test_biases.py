"""Shifted biases are kept where the outputs of other samples get better by them, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.execute.correction import frontier
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.proof.mending.biases import correct_biases

NETWORK = """
agraph (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
  a = Conv <pads = [1, 1, 1, 1], group = 8> (x, w, b)
  r = Relu(a)
  y = Conv(r, v)
}
"""
EXPERIMENT = Experiment(INT8_PER_TENSOR, weights=frozenset({"a"}), activations=frozenset())


def known(values: np.ndarray) -> tuple[Workbench, Split]:
    """A depthwise layer whose channels differ a hundredfold, so that those of small weights are rounded away."""
    random = np.random.default_rng(2)
    wide = np.geomspace(0.02, 2, 8)[:, None, None, None]
    weights = {
        "w": ((random.standard_normal((8, 1, 3, 3)) + 0.3) * wide).astype(np.float32),
        "v": (random.standard_normal((8, 8, 1, 1)) / wide.reshape(1, 8, 1, 1)).astype(np.float32),
        "b": random.standard_normal(8).astype(np.float32),
    }
    measured = measure(as_model(onnx_text(NETWORK, **weights)), [INT8_PER_TENSOR])
    source = ArraySource("s", {"x": values.astype(np.float32)})
    bench = workbench(measured).calibrated(observe(measured, source, 16))
    return bench, Split(source, measured.model.inputs, 16, 16)


def test_a_mean_error_goes_and_the_outputs_get_better() -> None:
    bench, split = known(np.random.default_rng(0).standard_normal((32, 8, 6, 6)) * 0.2 + 2)
    found = correct_biases(bench, EXPERIMENT, split)
    assert found.gain is not None and found.gain.db > 1 and not found.reason and "a" in found.shifts
    error = run_variants(bench, {0: lambda: found.bench.executable(EXPERIMENT)}, split.for_verdict)[0]
    assert error.worst_db == pytest.approx(found.gain.after.worst_db)


def test_shifts_that_do_harm_elsewhere_are_not_kept() -> None:
    values = np.random.default_rng(0).standard_normal((32, 8, 6, 6)) * 0.3 + 1
    values[16:] *= -1
    bench, split = known(values)
    found = correct_biases(bench, EXPERIMENT, split)
    assert found.bench is bench and not found.shifts and "do not get better" in found.reason
    assert found.gain is not None and found.gain.db <= 0


def test_one_sample_gives_no_shift() -> None:
    bench, split = known(np.ones((2, 8, 6, 6)))
    found = correct_biases(bench, EXPERIMENT, Split(split.source, split.inputs, 1, 1))
    assert found.bench is bench and found.gain is None and "beyond chance" in found.reason


def test_a_network_that_does_not_run_in_pieces_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object) -> None:
        raise NotRunnableError("out of memory")

    bench, split = known(np.ones((2, 8, 6, 6)))
    monkeypatch.setattr(frontier.Frontier, "advance", fail)
    found = correct_biases(bench, EXPERIMENT, split)
    assert found.bench is bench and found.reason.endswith("out of memory")
