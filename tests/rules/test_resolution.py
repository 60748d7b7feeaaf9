"""What rules say of activations whose codes resolve less than they could, in files of ONNX Runtime's quantiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.finding import Finding, Severity
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts
from onnxlint_q_rules.qdq.resolution.long_softmax import LongSoftmax
from onnxlint_q_rules.qdq.resolution.symmetric_half_range import SymmetricHalfRange


class Samples(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    """Samples for the only input of a model."""

    def __init__(self, name: str, samples: list[npt.NDArray[np.float32]]) -> None:
        self.left = [{name: sample} for sample in samples]

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return self.left.pop() if self.left else None


def findings(rule: Rule, path: Path) -> list[Finding]:
    return list(rule.findings(facts_of(read_model(path), DEFAULT_SCHEMES)))


def lowest(proto: onnx.ModelProto, sample: npt.NDArray[np.float32]) -> dict[str, float]:
    """Smallest value of each result of a node, as a fraction of its largest."""
    names = [name for node in proto.graph.node for name in node.output]
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(names, {proto.graph.input[0].name: sample})
    return {name: float(value.min() / max(value.max(), 1e-9)) for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize("name", ["healthy_resnet", "silu_gate"])
def test_a_symmetric_file_is_told_which_tensors_stay_above_zero(models: Path, tmp_path: Path, name: str) -> None:
    source = models / f"{name}.onnx"
    proto = onnx.load(source)
    (given,) = proto.graph.input
    shape = tuple(axis.dim_value or 1 for axis in given.type.tensor_type.shape.dim)
    sample = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    written = {}
    for symmetric in (True, False):
        written[symmetric] = tmp_path / f"{symmetric}.onnx"
        quantize_static(
            source,
            written[symmetric],
            Samples(given.name, [sample]),
            activation_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": symmetric},
        )
    (finding,) = findings(SymmetricHalfRange(), written[True])
    named = {place.output for place in (finding.location, *finding.places)}
    seen = lowest(proto, sample)
    above = {name for node in proto.graph.node if node.op_type in {"Relu", "Sigmoid"} for name in node.output}
    assert finding.severity is Severity.INFO and finding.metrics["tensors"] == len(named) > 1
    assert above <= named and all(seen[tensor] >= -SymmetricHalfRange().dip for tensor in named if tensor)
    assert not findings(SymmetricHalfRange(), written[False])


ATTENTION = """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[1, 4, 1024] scores, float[1, 1024, 8] values) => (float[1, 4, 8] y)
<float s = {0.003921569}, uint8 z = {0}> {
  p = Softmax <axis = -1> (scores)
  qp = QuantizeLinear(p, s, z)
  dp = DequantizeLinear(qp, s, z)
  y = MatMul(dp, values)
}
"""


@pytest.mark.parametrize(
    ("spread", "severity"),
    [(0.5, Severity.ERROR), (1.8, Severity.WARNING), (8.0, None)],
    ids=["even", "uneven", "sharp"],
)
def test_data_tells_how_much_attention_the_codes_keep(spread: float, severity: Severity | None) -> None:
    random = np.random.default_rng(3)
    scores = random.normal(scale=spread, size=(4, 1, 4, 1024)).astype(np.float32)
    values = random.normal(size=(4, 1, 1024, 8)).astype(np.float32)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    kept = float((np.rint(shares * 255) / 255).sum(axis=-1).mean())
    facts = example_facts(Example(ATTENTION, samples=lambda _: {"scores": scores, "values": values}))
    told = list(LongSoftmax().findings(facts))
    assert [finding.severity for finding in told] == ([severity] if severity else [])
    assert all(finding.metrics["kept_share"] == pytest.approx(kept, abs=0.01) for finding in told)


@pytest.mark.parametrize(
    ("places", "scale", "told"),
    [(511, 1 / 256, False), (512, 1 / 256, True), (509, 1 / 255, False), (511, 1 / 255, True), (300, 1 / 127, True)],
)
def test_half_a_step_is_rounded_to_zero_too(places: int, scale: float, told: bool) -> None:
    text = ATTENTION.replace("1024", str(places)).replace("0.003921569", f"{scale:.9g}")
    even = np.full(places, 1 / places, np.float32)
    assert (np.rint(even / np.float32(scale)) == 0).all() == told
    assert bool(list(LongSoftmax().findings(example_facts(Example(text))))) == told


@pytest.mark.parametrize(
    ("shape", "axis", "read"),
    [
        ("float[1, 4, 1024] scores", -1, "ArgMax(dp)"),  # scores of classes: small ones are not missed
        ("float[1, 4, N] scores", -1, "MatMul(dp, values)"),
        ("float[1, 1024, 4] scores", 2, "MatMul(dp, values)"),
    ],
    ids=["classes", "unknown length", "a short axis"],
)
def test_other_softmaxes_are_let_pass(shape: str, axis: int, read: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    other ({shape}, float values) => (float y) <float s = {{0.003921569}}, uint8 z = {{0}}> {{
      p = Softmax <axis = {axis}> (scores)
      qp = QuantizeLinear(p, s, z)
      dp = DequantizeLinear(qp, s, z)
      t = {read}
      y = Cast <to = 1> (t)
    }}"""
    assert not list(LongSoftmax().findings(example_facts(Example(text))))
