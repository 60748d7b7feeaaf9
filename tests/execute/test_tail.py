"""The part of a variant that differs from its network, fed with values of it, against the whole variant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.execute.executable import Executable, with_outputs
from onnxlint_q.execute.limits import StreamLimits
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.tail import tail_of
from onnxlint_q.execute.variants.variant_runs import _tails, run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import TensorType
from onnxlint_q.judge.facts import facts_of

NETWORK = """g (float[1, 6] x, bool c) => (float[1, 6] early, float[1, 6] y, float[1, 6] z) {
    a = MatMul(x, u)
    early = Relu(a)
    two = Constant <value = float {2}> ()
    b = MatMul(early, v)
    d = Mul(b, two)
    y = Add(d, a)
    z = If (c) <then_branch = t () => (float[1, 6] p) { p = MatMul(early, w) },
                else_branch = e () => (float[1, 6] q) { q = Add(y, early) }>
}"""
# What of the network a variant starts from: both branches count.
STARTS = {"a": set(), "b": {"early", "a"}, "p": {"early", "y"}}


def bench_of(text: str = NETWORK) -> Workbench:
    random = np.random.default_rng(8)
    # 324 values leave the proto, and are told apart by the array.
    held = {name: random.standard_normal((6, 6)).astype(np.float32) for name in "uvw" if f" {name})" in text}
    return workbench(facts_of(as_model(onnx_text(text, **held)), [INT8_PER_TENSOR]))


def samples(count: int = 3) -> list[dict[str, Array]]:
    random = np.random.default_rng(9)
    return [
        {"x": random.standard_normal((1, 6)).astype(np.float32), "c": np.array(number % 2 == 0)}
        for number in range(count)
    ]


@pytest.mark.parametrize("layer", STARTS)
def test_a_tail_gives_what_the_whole_variant_gives(layer: str) -> None:
    bench = bench_of()
    keys = [facts.output for facts in bench.measured.layers]
    (key,) = (key for key in keys if key.endswith(layer))
    variant = bench.executable(Experiment.on_weight(INT8_PER_TENSOR, key))
    tail = tail_of(bench.float_model, variant, bench.measured.model.types)
    assert tail is not None and set(tail.starts) == STARTS[layer]
    exact = with_outputs(bench.float_model, tail.starts)
    names = [value.name for value in exact.proto.graph.output]
    for sample in samples():
        known = {**sample, **dict(zip(names, Session(exact).run(sample), strict=True))}
        found = Session(tail.executable).run({name: known[name] for name in tail.inputs})
        for ours, whole in zip(tail.completed(found, known), Session(variant).run(sample), strict=True):
            np.testing.assert_allclose(ours, whole, rtol=1e-6, atol=1e-6)


def test_nothing_that_differs_has_no_tail() -> None:
    bench = bench_of()
    assert tail_of(bench.float_model, bench.executable(UNCHANGED), bench.measured.model.types) is None


def test_what_cannot_be_fed_has_no_tail() -> None:
    bench = bench_of()
    variant = bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b"))
    assert tail_of(bench.float_model, variant, bench.measured.model.types) is not None
    assert tail_of(bench.float_model, variant, {}) is None


def copied(executable: Executable) -> Executable:
    """One whose graph nobody else has."""
    return replace(executable, proto=onnx.ModelProto.FromString(executable.proto.SerializeToString()))


def test_a_weight_that_is_listed_as_an_input_is_not_fed() -> None:
    bench = bench_of()
    network, variant = map(copied, (bench.float_model, bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b"))))
    for one in (network, variant):
        for tensor in one.proto.graph.initializer:
            one.proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    tail = tail_of(network, variant, bench.measured.model.types)
    assert tail is not None and set(tail.inputs) == {"early", "a", "c"}


def test_nodes_may_stand_in_any_order() -> None:
    """ONNX Runtime sorts them itself, so such files are there."""
    bench = bench_of()
    variant = copied(bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b")))
    sorted_tail = tail_of(bench.float_model, variant, bench.measured.model.types)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in variant.proto.graph.node]
    del variant.proto.graph.node[:]
    variant.proto.graph.node.extend(reversed(nodes))
    tail = tail_of(bench.float_model, variant, bench.measured.model.types)
    assert tail is not None and sorted_tail is not None
    assert set(tail.starts) == set(sorted_tail.starts) == {"early", "a"} and tail.made == sorted_tail.made


def test_a_change_that_reaches_no_output_has_no_tail() -> None:
    bench = bench_of("g (float[1, 6] x) => (float[1, 6] y) { a = MatMul(x, u)  dead = MatMul(a, v)  y = MatMul(a, w) }")
    variant = bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "dead"))
    assert tail_of(bench.float_model, variant, bench.measured.model.types) is None
    (error,) = run_variants(bench, {"dead": lambda: variant}, lambda: iter([{"x": samples()[0]["x"]}])).values()
    assert error.samples == 1 and error.worst_db is None


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.STRING, 0])
def test_what_a_run_does_not_hold_as_it_gives_it_out_has_no_tail(kind: int) -> None:
    """float16 stays float32 between nodes of ONNX Runtime's CPU."""
    bench = bench_of()
    variant = bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b"))
    types = {**bench.measured.model.types, "early": TensorType(kind, (1, 6))}
    assert tail_of(bench.float_model, variant, types) is None


def test_only_what_differs_is_computed() -> None:
    bench = bench_of()
    layers = [facts.output for facts in bench.measured.layers]
    made = {key: bench.executable(Experiment.on_weight(INT8_PER_TENSOR, key)) for key in layers}
    tails = _tails(bench, made, lambda: iter(samples()))
    assert list(tails) == layers and all(len(tails[key].starts) == len(STARTS[key[-1]]) for key in layers)
    narrow = replace(bench, limits=replace(bench.limits, stream=replace(StreamLimits(), output_bytes=8 * 6)))
    assert [len(tail.starts) for tail in _tails(narrow, made, lambda: iter(samples())).values()] == [0]


def test_another_opset_may_compute_something_else() -> None:
    bench = bench_of()
    variant = copied(bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b")))
    for entry in variant.proto.opset_import:
        entry.version += entry.domain == ""
    assert tail_of(bench.float_model, variant, bench.measured.model.types) is None


def test_other_inputs_are_other_values() -> None:
    bench = bench_of()
    variant = copied(bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b")))
    variant.proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    assert tail_of(bench.float_model, variant, bench.measured.model.types) is None


def test_errors_are_the_same_with_and_without_room_for_values_in_between() -> None:
    bench = bench_of()
    experiments = [Experiment.on_weight(INT8_PER_TENSOR, facts.output) for facts in bench.measured.layers]
    variants = {one: (lambda one=one: bench.executable(one)) for one in experiments}
    narrow = replace(bench, limits=replace(bench.limits, stream=replace(StreamLimits(), output_bytes=0)))
    wide, full = (run_variants(one, variants, lambda: iter(samples())) for one in (bench, narrow))
    assert list(wide) == list(full) == experiments
    for one in experiments:
        assert wide[one].samples == full[one].samples == 3
        assert (wide[one].worst_db is None) == (full[one].worst_db is None)
        assert wide[one].worst_db == pytest.approx(full[one].worst_db, abs=0.01)


def test_a_variant_that_fails_is_told() -> None:
    bench = bench_of()
    broken = onnx.ModelProto()
    broken.CopyFrom(bench.executable(Experiment.on_weight(INT8_PER_TENSOR, "b")).proto)
    next(node for node in broken.graph.node if node.output[0] == "d").op_type = "Gather"
    with pytest.raises(Exception, match=r"Gather|indices|Tind"):
        run_variants(
            bench,
            {"broken": lambda: replace(bench.executable(UNCHANGED), proto=broken)},
            lambda: iter(samples()),
        )
