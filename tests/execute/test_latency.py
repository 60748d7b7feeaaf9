"""Models are timed in turns on one sample, each as it is deployed; nothing here depends on how fast a machine is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.execute import latency
from onnxlint_q.execute.executable import Executable, as_stored
from onnxlint_q.execute.latency import measure_latency
from onnxlint_q.execute.session import NotRunnableError, Session

SAMPLE = {"x": np.ones((1, 4), np.float32)}


def network(operator: str = "Relu") -> onnx.ModelProto:
    return onnx_text(f"g (float[N,4] x) => (float[N,4] y) {{ y = {operator}(x) }}")


def executable(proto: onnx.ModelProto) -> Executable:
    return as_stored(as_model(proto))


class Clock:
    """Time that passes only when a model runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.order: list[str] = []
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)

    def run(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A Relu takes 1, 2, 3, … seconds, a Neg always 10."""
    clock = Clock(monkeypatch)

    class Timed:
        def __init__(self, model: Executable, *, deployed: bool, **_: object) -> None:
            assert deployed, "as ONNX Runtime runs it by default"
            self.name = model.proto.graph.node[0].op_type
            self.runs = 0

        def run(self, sample: object) -> None:
            assert sample is SAMPLE
            self.runs += 1
            clock.run(self.name, 10.0 if self.name == "Neg" else float(self.runs - latency._WARM))

    monkeypatch.setattr(latency, "Session", Timed)
    return clock


def test_models_take_turns_after_they_are_warm(clock: Clock) -> None:
    measure_latency([executable(network()), executable(network("Neg"))], SAMPLE, seconds=0)
    warm = ["Relu"] * latency._WARM + ["Neg"] * latency._WARM
    assert clock.order == [*warm, *["Relu", "Neg"] * latency._FEWEST]


def test_each_has_its_median_and_what_a_tenth_takes_less_and_more(clock: Clock) -> None:
    first, second = measure_latency([executable(network()), executable(network("Neg"))], SAMPLE, seconds=150.0)
    # 11 + 12 + … + 21 are 176 seconds, the first sum of so many pairs that is over 150.
    assert first.runs == second.runs == 10
    assert (first.median_ms, second.median_ms) == (5500.0, 10000.0)
    assert first.low_ms == pytest.approx(1900.0) and first.high_ms == pytest.approx(9100.0)
    assert second.low_ms == second.high_ms == 10000.0


def test_runs_end_when_there_are_enough(clock: Clock) -> None:
    (found,) = measure_latency([executable(network("Neg"))], SAMPLE, seconds=1e9)
    assert found.runs == latency._MOST


def test_real_runs_have_times_in_order() -> None:
    for found in measure_latency([executable(network()), executable(network("Neg"))], SAMPLE, seconds=0.01):
        assert 0 < found.low_ms <= found.median_ms <= found.high_ms
        assert latency._FEWEST <= found.runs <= latency._MOST


def test_a_model_that_does_not_run_is_told() -> None:
    broken = onnx_text("g (float[N,4] x) => (float[N,4] y) { y = elsewhere.Unknown(x) }")
    with pytest.raises(NotRunnableError):
        measure_latency([executable(network()), executable(broken)], SAMPLE)
    assert Session is latency.Session
