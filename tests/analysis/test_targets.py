"""The facts about targets: well formed, with a source, and true of the installed ONNX Runtime where that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from fusing import FUSES
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.targets import TARGETS, Consequence, Fact, applies, breaches, held, profile, read_target
from onnxlint_q.analysis.targets.match import CONDITIONS
from onnxlint_q.execute.deployment.run import run_as_deployed

FACTS = [pytest.param(name, fact, id=f"{name}-{fact.name}") for name in TARGETS for fact in read_target(name).facts]
RUN = [pytest.param(fact, id=fact.name) for fact in read_target("ort-cpu").facts if fact.example]


@pytest.mark.parametrize(("name", "fact"), FACTS)
def test_a_fact_says_where_it_applies_what_comes_of_it_and_who_says_so(name: str, fact: Fact) -> None:
    assert fact.when and set(fact.when) <= CONDITIONS
    assert all((fact.takes, fact.comes, fact.remedy.endswith("."), fact.source, fact.versions))
    assert [other.name for other in read_target(name).facts].count(fact.name) == 1


def test_there_is_a_file_for_each_target() -> None:
    folder = profile._FOLDER
    assert {entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")} == {f"{n}.toml" for n in TARGETS}


@pytest.mark.parametrize("fact", RUN)
def test_a_fact_applies_to_its_example(fact: Fact) -> None:
    measured = measure(as_model(onnx.parser.parse_model(fact.example)))
    assert any(applies(fact, measured.model, use) for use in measured.uses)


@FUSES
@pytest.mark.parametrize("fact", RUN)
def test_a_fact_about_this_runtime_is_true(fact: Fact) -> None:
    """Refused, failing or wrong, as it says, with default options."""
    if not fact.holds:
        pytest.skip("it is about another version")
    model = as_model(onnx.parser.parse_model(fact.example))
    deployed = run_as_deployed(model, list(_samples(model.proto)))
    if fact.consequence is Consequence.WRONG:
        assert deployed.refused is None
        assert [one.location.node for one in deployed.differing] == ["op"]
    else:
        assert deployed.refused is not None
        assert deployed.refused.loads == (fact.consequence is Consequence.FAILS)
        assert deployed.refused.location.node == "op"


def _samples(proto: onnx.ModelProto) -> Iterator[dict[str, npt.NDArray[Any]]]:
    (value,) = proto.graph.input
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    random = np.random.default_rng(0)
    for _ in range(4):
        values = random.normal(size=shape) if dtype.kind == "f" else random.integers(0, 100, shape)
        yield {value.name: values.astype(dtype)}


def test_facts_about_older_versions_do_not_hold() -> None:
    facts = {fact.name: fact for fact in read_target("ort-cpu").facts}
    assert not facts["conv-integer-int8-weight"].holds
    assert facts["conv-integer-zero-points"].holds


def test_a_version_is_compared_by_its_numbers() -> None:
    assert profile._within("1.9.0", None, "1.24.4") and not profile._within("1.32.0", None, "1.24.4")
    assert profile._within("1.32.0", "1.24.4", None) and not profile._within("1.9.0", "1.24.4", None)


def test_a_transpose_between_scales_and_product_is_followed() -> None:
    """One scale for each row of `w`, which after the Transpose is a column."""
    text = """
    g (float[N, 2] x) => (float[N, 3] y) {
      q = QuantizeLinear (x, s, z)
      v = DequantizeLinear (q, s, z)
      d = DequantizeLinear <axis = 0> (w, ws, wz)
      t = Transpose <perm = [1, 0]> (d)
      y = MatMul (v, t)
    }
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "s": np.array(0.1, np.float32),
        "z": np.array(3, np.uint8),
        "w": np.ones((3, 2), np.int8),
        "ws": np.array([1, 2, 3], np.float32),
    }
    measured = measure(as_model(onnx_text(text, **arrays, wz=np.zeros(3, np.int8))))
    (use,) = (use for use in measured.uses if use.operand == "weight" and use.node.op_type == "MatMul")
    assert (use.axis, use.channel_axis) == (1, 1)


def test_what_an_operand_has_is_told_in_words() -> None:
    text = """
    g (float[N, 2] x) => (float[N, 2] y) {
      q = QuantizeLinear (x, s, z)
      y = DequantizeLinear (q, s, z)
    }
    """
    measured = measure(as_model(onnx_text(text, s=np.array(0.1, np.float32), z=np.array(3, np.uint8))))
    (breach,) = breaches(read_target("tensorrt"), measured.model, measured.uses)
    assert breach.fact.name == "zero-point"
    assert held(breach.fact, measured.model, breach.uses[0]) == "uint8 codes and zero point 3"
