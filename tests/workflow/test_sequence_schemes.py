"""A transformer through the whole of a check: which schemes it is judged for, and what is said of each."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx_cases import Array, onnx_text

import onnxlint_q as q
from onnxlint_q.analysis.schemes import SEQUENCE_SCHEMES
from onnxlint_q.workflow.results import Basis

WIDTH, TOKENS = 32, 12
BLOCK = f"""
g (float[1, {TOKENS}, {WIDTH}] x) => (float[1, {TOKENS}, 4] y) {{
    [query] q = MatMul(x, wq)
    [key] k = MatMul(x, wk)
    [value] v = MatMul(x, wv)
    t = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul(q, t)
    p = Softmax <axis = -1> (s)
    a = MatMul(p, v)
    h = Add(a, x)
    [up] u = MatMul(h, wu)
    r = Relu(u)
    [head] y = MatMul(r, wh)
}}
"""


def transformer(outlier: float = 1.0) -> onnx.ModelProto:
    """One block; one output channel of `up` is so many times wider than the others, and `head` undoes it."""
    random = np.random.default_rng(0)
    small = {name: 0.2 * random.standard_normal((WIDTH, WIDTH)) for name in ("wq", "wk", "wv", "wu")}
    head = random.standard_normal((WIDTH, 4))
    small["wu"][:, 3] *= outlier
    head[3] /= outlier
    return onnx_text(BLOCK, **{name: value.astype(np.float32) for name, value in (*small.items(), ("wh", head))})


def samples(count: int = 16) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((count, TOKENS, WIDTH)).astype(np.float32)}


def test_it_is_judged_for_what_people_run() -> None:
    result = q.lint(transformer())
    assert [scheme.scheme for scheme in result.schemes] == [scheme.name for scheme in SEQUENCE_SCHEMES]
    assert [scheme.in_float for scheme in result.schemes] == [
        "",
        "",
        "each run takes its own ranges",
        "activations stay in float",
    ]
    assert [scheme.scheme for scheme in q.lint(transformer(), schemes="fp8").schemes] == ["fp8"]


def test_measured_figures_say_what_each_stands_for() -> None:
    result = q.lint(transformer(), samples())
    assert {scheme.basis for scheme in result.schemes} == {Basis.MEASURED}
    said = {scheme.scheme: scheme.measured_as for scheme in result.schemes}
    assert said["int8-dynamic"] == "quantize_dynamic after quant_pre_process, U8S8"
    assert said["int4-blocks"].startswith("MatMulNBitsQuantizer, 4 bits")
    text = " ".join(q.render([result], "full").split())
    assert re.search(r"int8-dynamic: [^.:]*each run takes its own ranges\.", text)
    assert re.search(r"int8-per-tensor, int8-per-channel: [^.:]*the ranges come from \d+ others\.", text)


def test_findings_about_one_scale_a_tensor_still_come() -> None:
    """The weight of `up` is the same under int8-dynamic, and the fault is told once."""
    result = q.lint(transformer(outlier=300.0), samples())
    about = [(finding.code, finding.claim) for finding in result.findings if finding.location.node == "up"]
    told = [(code, claim.scheme) for code, claim in about if claim is not None and claim.scheme.startswith("int8")]
    assert told == [("QW002", "int8-per-tensor")]
    verdicts = {scheme.scheme: scheme.output_sqnr_db or 0.0 for scheme in result.schemes}
    assert verdicts["int8-per-channel"] > verdicts["int8-per-tensor"] + 1


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int4-blocks", "int8-weight-only"])
def test_nobody_is_sent_to_the_static_quantiser_for_a_scheme_it_does_not_make(scheme: str) -> None:
    proto = transformer(outlier=3000.0)
    result = q.lint(proto, samples(), schemes=scheme)
    (judged,) = result.schemes
    assert judged.verdict is not None
    for form in ("full", "json", "html"):
        assert "quantize_static(" not in re.sub(r"<script.*?</script>", "", q.render([result], form), flags=re.DOTALL)


def test_a_probe_measures_them_without_calibration_of_its_own() -> None:
    result = q.lint(transformer(), probe=True, schemes=("int8-dynamic", "int4-blocks"))
    assert {scheme.basis for scheme in result.schemes} == {Basis.PROBE}


def test_a_table_without_a_scale_leaves_nothing_when_it_is_quantised_as_it_lies() -> None:
    """`quantize_dynamic` makes codes of a table, and one infinite row makes all of its scale infinite."""
    table = np.random.default_rng(2).standard_normal((10, WIDTH)).astype(np.float32)
    table[9] = -np.inf
    proto = onnx_text(
        f"g (int64[1, {TOKENS}] ids) => (float[1, {TOKENS}, {WIDTH}] y) {{ e = Gather(table, ids)  y = MatMul(e, w) }}",
        table=table,
        w=np.eye(WIDTH, dtype=np.float32),
    )
    ids = {"ids": np.random.default_rng(3).integers(0, 9, (16, TOKENS))}
    for data in (None, ids):
        (scheme,) = q.lint(proto, data=data, schemes="int8-dynamic").schemes
        assert scheme.verdict is q.Verdict.BREAKS, data
    (foreseen,) = q.lint(proto, schemes="int8-dynamic").schemes
    assert "'table'" in foreseen.note and "not finite" in foreseen.note
