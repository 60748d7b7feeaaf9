"""Constants that layers share, against what ONNX Runtime's quantisers make of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text, run
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.placement import clashing_copies, turned_again
from onnxlint_q.analysis.schemes import INT8_DYNAMIC, INT8_PER_TENSOR, SCHEMES, Scheme
from onnxlint_q.api.calls import lint
from onnxlint_q.execute.writing.prepared import prepared
from onnxlint_q.workflow.scheme_result import SchemeResult

PER_CHANNEL = SCHEMES["int8-dynamic-per-channel"]
# Names of the bias, of the two hidden results, and of another initializer; the copy whose name is taken.
NAMES = {
    "other names": ("b", "h", "g", "w9", None),
    "the first number": ("b", "b0", "g", "w9", "b0"),
    "of a result behind the copy": ("b", "h", "b0", "w9", "b0"),
    "a number that is skipped": ("b", "b0", "g", "b3", None),
    "the next number": ("b", "b4", "g", "b3", "b4"),
    "a number that ends a name": ("layer_2", "layer_20", "g", "w9", "layer_20"),
    "no number": ("b", "b_0", "g", "bw", None),
}


def three_layers(case: str) -> onnx.ModelProto:
    random = np.random.default_rng(3)
    bias, first, second, other, _ = NAMES[case]
    weights = {name: random.standard_normal((4, 4, 1, 1)).astype(np.float32) for name in ("u", "v", other)}
    return onnx_text(
        f"""g (float[1, 4, 3, 3] x) => (float[1, 4, 3, 3] y) {{
            [one] {first} = Conv(x, u, {bias})
            [two] {second} = Conv({first}, v, {bias})
            [three] y = Conv({second}, {other}, other_bias)
        }}""",
        **weights,
        **{bias: np.ones(4, np.float32), "other_bias": np.zeros(4, np.float32)},
    )


CONVS: dict[str, tuple[str, bool]] = {
    "directly": ("b0 = Conv(x, u, b)  z = Conv(b0, v, b)  y = Relu(z)", True),
    "an input": ("h = Conv(x, u, b)  z = Conv(h, v, b)  y = Relu(z)", False),
    "a Relu that goes first": ("b0 = Conv(x, u, b)  r = Relu(b0)  z = Conv(r, v, b)  y = Relu(z)", False),
    "a Sigmoid": ("b0 = Conv(x, u, b)  r = Sigmoid(b0)  z = Conv(r, v, b)  y = Relu(z)", True),
    "a Relu that goes later": (
        "h = Conv(x, u, b)  k = Relu(h)  z = Conv(k, v, b)  s = Relu(z)  b0 = Conv(s, u, q)  y = Relu(b0)",
        True,
    ),
    "nobody": ("h = Conv(x, u, b)  b0 = Sigmoid(h)  z = Conv(h, v, b)  y = Relu(z)", False),
    "three of them": ("h = Conv(x, u, b)  g = Conv(h, v, b)  b1 = Conv(g, u, b)  y = Sigmoid(b1)", True),
}


@pytest.mark.parametrize("case", CONVS)
def test_what_becomes_of_the_tensor_decides_whether_a_copy_is_mixed_up_with_it(case: str, tmp_path: Path) -> None:
    body, clashes = CONVS[case]
    random, name = np.random.default_rng(3), "b0" if case == "an input" else "x"
    held = {key: random.standard_normal((4, 4, 1, 1)).astype(np.float32) for key in "uv"}
    held |= {key: random.standard_normal(4).astype(np.float32) for key in "bq" if f", {key})" in body}
    if name == "b0":
        body, clashes = body.replace("(x,", "(b0,"), True
    proto = onnx_text(f"g (float[1, 4, 3, 3] {name}) => (float[1, 4, 3, 3] y) {{ {body} }}", **held)
    facts = measure(as_model(proto), [INT8_PER_TENSOR])
    assert bool(clashing_copies(facts.model, facts.folded)) == clashes
    float_file, made = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(proto, float_file)
    quantize_static(float_file, made, _Samples(name))
    sample = next(iter(_Samples(name).samples()))
    (exact,) = run(proto, sample)
    try:
        (found,) = run(onnx.load(made), sample)
    except Exception:  # whatever ONNX Runtime says of a graph that makes no sense
        right = False
    else:
        right = found.shape == exact.shape and np.square(found - exact).sum() < 0.01 * np.square(exact).sum()
    assert right is not clashes


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    def __init__(self, name: str = "x") -> None:
        self._name = name
        self._left: Iterator[dict[str, Array]] = iter(self.samples())

    def samples(self) -> list[dict[str, Array]]:
        random = np.random.default_rng(4)
        return [{self._name: random.standard_normal((1, 4, 3, 3)).astype(np.float32)} for _ in range(3)]

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)


def result_of(path: Path, scheme: Scheme) -> SchemeResult:
    (result,) = lint(path, schemes=[scheme.name]).schemes
    return result


@pytest.mark.parametrize("case", NAMES)
def test_a_copy_of_a_bias_whose_name_is_taken_makes_a_file_that_does_not_load(case: str, tmp_path: Path) -> None:
    proto, (bias, *_, clash) = three_layers(case), NAMES[case]
    facts = measure(as_model(proto), [INT8_PER_TENSOR])
    assert clashing_copies(facts.model, facts.folded) == ({bias: clash} if clash else {})
    float_file, ready = tmp_path / "float.onnx", tmp_path / "ready.onnx"
    onnx.save(proto, float_file)
    onnx.save(prepared(facts, INT8_PER_TENSOR).proto, ready)
    sample = {"x": np.ones((1, 4, 3, 3), np.float32)}
    for given, loads in ((float_file, clash is None), (ready, True)):
        made = tmp_path / "int8.onnx"
        quantize_static(given, made, _Samples())
        if loads:
            run(onnx.load(made), sample)
        else:
            with pytest.raises(Exception, match=r"(?i)invalid|fail"):
                run(onnx.load(made), sample)
    obstacle = result_of(float_file, INT8_PER_TENSOR).obstacle
    assert (obstacle is not None) == (clash is not None)
    if obstacle is not None:
        assert (obstacle.fault, obstacle.once) == ("mixes up two tensors", "each layer has a bias of its own")


def two_lstm(second: str) -> onnx.ModelProto:
    random = np.random.default_rng(6)
    weights = {name: random.standard_normal((1, 32, 8)).astype(np.float32) / 3 for name in "wruv"}
    held = {name: value for name, value in weights.items() if name in f"w, r, {second}".split(", ")}
    return onnx_text(
        f"""g (float[5, 1, 8] x, float[5, 1, 8] z) => (float[5, 1, 1, 8] y) {{
            [one] a = LSTM <hidden_size = 8> (x, w, r)
            [two] b = LSTM <hidden_size = 8> (z, {second})
            [sum] y = Add(a, b)
        }}""",
        **held,
    )


@pytest.mark.parametrize("scheme", [INT8_DYNAMIC, PER_CHANNEL], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize(("second", "shared"), [("u, v", ""), ("w, r", "wr"), ("w, v", "w"), ("u, r", "r")])
def test_weights_that_two_lstm_share_are_spoilt(second: str, shared: str, scheme: Scheme, tmp_path: Path) -> None:
    proto, path, made = two_lstm(second), tmp_path / "float.onnx", tmp_path / "int8.onnx"
    facts = measure(as_model(proto), [scheme])
    found = turned_again(facts.model, (folded.layer for folded in facts.folded))
    assert "".join(weight for _, weight in found) == shared
    random = np.random.default_rng(7)
    sample = {name: random.standard_normal((5, 1, 8)).astype(np.float32) for name in "xz"}
    (exact,) = run(proto, sample)

    def lost(given: onnx.ModelProto) -> float:
        onnx.save(given, path)
        quantize_dynamic(path, made, per_channel=scheme.per_channel, weight_type=QuantType.QInt8)
        (value,) = run(onnx.load(made), sample)
        return float(np.square(value - exact).sum() / np.square(exact).sum())

    assert lost(prepared(facts, scheme).proto) < 0.01
    if not shared:
        assert lost(proto) < 0.01
    elif scheme.per_channel:
        with pytest.raises(Exception, match=r"(?i)invalid|fail"):
            lost(proto)
    else:
        assert lost(proto) > 0.05
    onnx.save(proto, path)
    obstacle = result_of(path, scheme).obstacle
    assert (obstacle is not None) == bool(shared)
    if obstacle is not None:
        assert obstacle.fault == ("fails in every run" if scheme.per_channel else "computes something else")


def test_half_precision_has_no_dynamic_file() -> None:
    """DynamicQuantizeLinear takes float32 alone; what the quantiser leaves in double precision is no layer to it."""
    text = "g ({kind}[2, 8] x) => ({kind}[2, 8] y) {{ [l] y = MatMul(x, w) }}"
    found = {}
    for kind, dtype in (("float", np.float32), ("float16", np.float16), ("double", np.float64)):
        proto = onnx_text(text.format(kind=kind), w=np.eye(8, dtype=dtype))
        model = lint(proto, schemes=["int8-per-tensor", "int8-dynamic"])
        found[kind] = [(result.verdict is not None, result.obstacle is not None) for result in model.schemes]
        notes = {result.note for result in model.schemes if result.verdict is None}
        assert all("MatMul (double)" in note for note in notes)
    assert found == {
        "float": [(True, False), (True, False)],
        "float16": [(True, False), (True, True)],
        "double": [(False, False), (False, False)],
    }
