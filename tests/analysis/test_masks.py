"""Constants that stand for minus infinity, however they come among the scores."""

from __future__ import annotations

import numpy as np
import pytest
from mask_cases import LENGTH, LOWEST, WAYS, network
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.causes.masks import Mask, find_masks, floors

MASKED = "d = Sub(one, keep)  m = Mul(d, c)  a = Add(s, m)"


def masks(steps: str, **constants: object) -> tuple[Mask, ...]:
    return find_masks(as_model(network(steps, **constants)))


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_is_followed_to_its_softmax(way: str) -> None:
    steps, constants = WAYS[way]
    (mask,) = masks(steps, **constants)
    large = np.nan_to_num(np.asarray(constants.get("c", -1e9), np.float32), neginf=LOWEST)
    lowest = -float(np.abs(large).max()) * (0.5 if way == "scaled" else 1)
    assert mask.lowest == pytest.approx(lowest, rel=1e-6)
    assert [softmax.op_type for softmax in mask.softmaxes] == ["Softmax"] and not mask.reason
    assert set(mask.joined.values()) == {"s"} and mask.reach["a"] == 1
    assert mask.adds is (way not in {"replaced", "infinite"})


@pytest.mark.parametrize(("value", "large"), [(-100.0, False), (-1e3, True)])
def test_a_mask_of_the_usual_size_is_one_as_well(value: float, large: bool) -> None:
    (mask,) = masks(f"{MASKED}  p = Softmax(a)", c=value)
    assert mask.is_large is large and floors([mask]) == {"a": value}


def test_what_is_in_front_of_a_factor_is_larger_by_it() -> None:
    (mask,) = masks(*WAYS["scaled"][:1], c=-1e9)
    assert dict(mask.reach) == {"b": 2.0, "a": 1.0}
    assert floors([mask]) == pytest.approx({"b": -1e9, "a": -5e8})
    assert floors([mask], {"c": -100.0}) == {"b": -200.0, "a": -100.0}


def test_one_constant_that_serves_several_layers_is_one_mask() -> None:
    steps = "d = Sub(one, keep)  m = Mul(d, c)  b = Add(s, m)  r = Softmax(b)  a = Add(r, m)  p = Softmax(a)"
    (mask,) = masks(steps, c=LOWEST)
    assert len(mask.softmaxes) == 2 and set(mask.reach) == {"a", "b"} and dict(mask.joined) == {"b": "s", "a": "r"}


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (
            f"{MASKED}  u = Tanh(a)  r = Softmax(a)  p = Mul(r, u)",
            "the Tanh 'u' reads 'a', too",
        ),
        (f"{MASKED}  p = LogSoftmax(a)", "the LogSoftmax 'p' reads 'a', too"),
        (
            f"{MASKED}  b = Mul(a, s)  p = Softmax(b)",
            "values that are not known",
        ),
    ],
)
def test_a_mask_that_is_read_otherwise_keeps_its_value(steps: str, reason: str) -> None:
    (mask,) = masks(steps, c=-1e9)
    assert reason in mask.reason


def test_a_row_that_is_masked_as_a_whole_keeps_the_value() -> None:
    value = np.zeros((1, LENGTH, LENGTH), np.float32)
    value[0, 2] = -1e9
    (mask,) = masks("a = Add(s, c)  p = Softmax(a)", c=value)
    assert "whole row" in mask.reason
    value[0, 2, 0] = 0
    (mask,) = masks("a = Add(s, c)  p = Softmax(a)", c=value)
    assert not mask.reason


def test_an_output_of_the_model_is_another_reader() -> None:
    proto = onnx_text(
        """g (float[N, 4] x, float[4, 4] k) => (float[N, 4] a, float[N, 4] p) {
          s = MatMul(x, k)  a = Add(s, c)  p = Softmax(a)
        }""",
        c=np.asarray([0, -1e9, 0, 0], np.float32),
    )
    (mask,) = find_masks(as_model(proto))
    assert mask.reason == "'a' is an output of the model, too"


@pytest.mark.parametrize(
    ("steps", "constants"),
    [
        ("a = Mul(s, c)  p = Softmax(a)", {"c": -1e9}),  # a factor of the scores
        ("a = Max(s, c)  p = Softmax(a)", {"c": LOWEST}),  # a bound that no score is beyond
        ("a = Add(s, c)  p = Softmax(a)", {"c": 1e9}),  # the same for all, and none lower
        (f"{MASKED}  p = Softmax(a)", {"c": -20.0}),
        (f"{MASKED}  p = Tanh(a)", {"c": -1e9}),
    ],
    ids=["factor", "bound", "raised", "small", "no softmax"],
)
def test_what_masks_nothing_is_no_mask(steps: str, constants: dict[str, object]) -> None:
    assert masks(steps, **constants) == ()
