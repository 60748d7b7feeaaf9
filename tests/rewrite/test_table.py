"""All rewrites: what they are called, and that any of them in any order leave the float outputs."""

from __future__ import annotations

import re
from collections.abc import Callable

import mask_cases
import numpy as np
import onnx
import outlier_cases
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array, as_model, detector, onnx_text
from rewrite_cases import assert_same

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.table import DEFAULT_REWRITES, REWRITES

TEXT = """gemms (float[N, 6] x) => (float[N, 4] y, float[N, 4] z) {
  a = Gemm <alpha = 0.5, beta = 2.0> (x, w, c)
  b = Gemm <transB = 1> (a, v, bias)
  d = BatchNormalization(b, gain, bias, bias, variance)
  y = Gemm(d, v, bias)
  z = MatMul(d, v)
}"""


def gemms() -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Factors, shared constants, unread values, no names."""
    rng = np.random.default_rng(2)
    shapes = {"w": (6, 4), "v": (4, 4), "c": (1, 4), "bias": (4,), "gain": (4,), "variance": (4,), "unread": (3,)}
    arrays = {name: rng.uniform(0.5, 2, size=shape).astype(np.float32) for name, shape in shapes.items()}
    return onnx_text(TEXT, **arrays), {"x": rng.normal(size=(5, 6)).astype(np.float32)}


def masked() -> tuple[onnx.ModelProto, dict[str, Array]]:
    steps, constants = mask_cases.WAYS["computed"]
    return mask_cases.network(steps, **constants), mask_cases.samples()


def outliers() -> tuple[onnx.ModelProto, dict[str, Array]]:
    return outlier_cases.network(2), outlier_cases.samples()


def heads() -> tuple[onnx.ModelProto, dict[str, Array]]:
    return detector(), {"images": np.random.default_rng(3).normal(size=(2, 3, 32, 32)).astype(np.float32)}


def test_names_say_what_they_do() -> None:
    names = [one.name for one in REWRITES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert all(one.what and not one.what.endswith(".") for one in REWRITES)


@pytest.mark.parametrize("network", [gemms, masked, outliers, heads])
@given(data=st.data())
def test_any_of_them_in_any_order(
    network: Callable[[], tuple[onnx.ModelProto, dict[str, Array]]], data: st.DataObject
) -> None:
    proto, feeds = network()
    model = as_model(proto)
    for rewrite in data.draw(st.permutations(DEFAULT_REWRITES), label="order"):
        found = rewrite.find(measure(model, DEFAULT_SCHEMES), None)
        wanted = [one for one in found if isinstance(one, Candidate)]
        chosen = data.draw(st.lists(st.sampled_from(wanted), unique_by=id), label="part") if wanted else []
        if chosen:
            model = rewrite.apply(model, chosen)
    onnx.checker.check_model(model.proto, full_check=True)
    assert [value.name for value in model.outputs] == [value.name for value in as_model(proto).outputs]
    assert_same(proto, model, feeds, 100)


def test_one_after_the_other_in_the_order_of_the_table() -> None:
    """Each sees what those before it made: a BatchNormalization folds into a weight that is no longer shared."""
    proto, feeds = gemms()
    proto.opset_import[0].version = 11
    model, applied = as_model(proto), []
    for rewrite in DEFAULT_REWRITES:
        found = rewrite.find(measure(model, DEFAULT_SCHEMES), None)
        if wanted := [one for one in found if isinstance(one, Candidate)]:
            model = rewrite.apply(model, wanted)
            applied.append(rewrite.name)
    assert applied == [
        "opset",
        "gemm-operands",
        "shared-constants",
        "fold-batch-norms",
        "unread-initializers",
        "node-names",
    ]
    assert model.opset == 17 and all(node.name for node in model.nodes)
    assert not list(model.nodes_of("BatchNormalization"))
    assert_same(proto, model, feeds, 100)
