"""What an input holds is told by what reads it: along which axis its features are, pictures, ids."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.forecast.forward import propagate
from onnxlint_q.forecast.inputs.prior import InputScale, input_samples
from onnxlint_q.forecast.rounding.limits import value_range
from onnxlint_q.graph import find_layers

SHAPES = {
    "a product": ("[1, N, 6]", "y = MatMul(x, w)", (1, 1, 6)),
    "a product of what was turned": ("[1, 6, N]", "t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul(t, w)", (1, 6, 1)),
    "a product of what was picked": ("[1, N, 6]", "t = Gather <axis = 1> (x, zero)  y = MatMul(t, w)", (1, 1, 6)),
    "a product, and few places": ("[1, 5, 6]", "y = MatMul(x, w)", (1, 5, 6)),
    "a normalisation": ("[1, N, 6]", "y = LayerNormalization(x, gain)", (1, 1, 6)),
    "a convolution": ("[1, 6, N]", "y = Conv(x, kernel)", (1, 6, 1)),
    "a convolution over places": ("[1, 9]", "u = Unsqueeze(x, one)  y = Conv(u, short)", (1, 1)),
    "computed products": (
        "[1, N, 6]",
        "t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul(x, t)",
        (1, 1, 6),
    ),
    "the same of fixed length": ("[1, 7, 6]", "t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul(x, t)", (1, 7, 1)),
    "a convolution of a picture": ("[1, 3, 8, 8]", "y = Conv(x, colours)", (1, 3, 1, 1)),
    "the same, colours last": (
        "[1, 8, 8, 3]",
        "t = Transpose <perm = [0, 3, 1, 2]> (x)  y = Conv(t, colours)",
        (1, 1, 1, 3),
    ),
    "a convolution of small planes": ("[1, 6, 4, 4]", "y = Conv(x, planes)", (1, 6, 1, 1)),
    "nothing": ("[1, 7, N]", "y = Relu(x)", (1, 7, 1)),
}


@pytest.mark.parametrize("reader", SHAPES)
def test_features_are_along_the_axis_that_is_read_as_such(reader: str) -> None:
    shape, body, apart = SHAPES[reader]
    model = as_model(
        onnx_text(
            f"g (float{shape} x) => (y) {{ {body} }}",
            w=np.ones((6, 4), np.float32),
            gain=np.ones(6, np.float32),
            kernel=np.ones((4, 6, 3), np.float32),
            short=np.ones((4, 1, 3), np.float32),
            colours=np.ones((4, 3, 3, 3), np.float32),
            planes=np.ones((4, 6, 3, 3), np.float32),
            zero=np.asarray(0),
            one=np.asarray([1]),
        )
    )
    assert input_samples(model, model.inputs[0], InputScale(), 0).shape[1:] == apart


def test_a_first_state_is_told_apart_and_stays_within_one() -> None:
    model = as_model(
        onnx_text(
            """g (float[1, N, 6] x, float[1, 2, 4] s) => (y) {
                t = Transpose <perm = [1, 0, 2]> (x)
                h = Slice(s, zero, one, one)
                g = Transpose <perm = [1, 0, 2]> (h)
                y = RNN <hidden_size = 4> (t, w, r, , , g)
            }""",
            w=np.ones((1, 4, 6), np.float32),
            r=np.ones((1, 4, 4), np.float32),
            zero=np.asarray([0]),
            one=np.asarray([1]),
        )
    )
    x, state = (input_samples(model, value, InputScale(), 0) for value in model.inputs)
    assert x.shape[1:] == (1, 1, 6) and state.shape[1:] == (1, 2, 4)
    assert np.abs(x).max() > 1 > np.abs(state).max()


@pytest.mark.parametrize("kind", ["int64", "int32", "float"])
def test_what_picks_rows_holds_ids_of_whatever_type(kind: str) -> None:
    model = as_model(
        onnx_text(
            f"g ({kind}[1, 9] ids) => (y) {{ n = Cast <to = 7> (ids)  y = Gather(table, n) }}",
            table=np.arange(40, dtype=np.float32).reshape(20, 2),
        )
    )
    samples = propagate(model, []).samples
    assert set(np.unique(samples["ids"])) == set(range(20))
    np.testing.assert_array_equal(samples["y"][..., 0].ravel(), 2 * samples["ids"].ravel())


def test_a_picture_that_was_turned_is_within_black_and_white() -> None:
    """As it would be if it was not."""
    ranges = []
    for shape, body in (
        ("[1, 8, 8, 3]", "t = Transpose <perm = [0, 3, 1, 2]> (x)  y = Conv(t, colours)"),
        ("[1, 3, 8, 8]", "t = Identity(x)  y = Conv(t, colours)"),
    ):
        model = as_model(
            onnx_text(f"g (float{shape} x) => (y) {{ {body} }}", colours=np.ones((4, 3, 3, 3), np.float32))
        )
        propagation = propagate(model, fold_batch_norms(model, list(find_layers(model))).layers)
        ranges.append(value_range(model, "t", propagation))
    assert ranges[0] == pytest.approx(ranges[1], rel=0.05)


LINKS = {
    "summed over neighbours": ("s = MatMul(a, x)  y = MatMul(s, w)", True),
    "averaged over them": (
        "n = ReduceSum <keepdims = 1> (a, last)  d = Div(a, n)  s = MatMul(d, x)  y = Relu(s)",
        True,
    ),
    "a product with a weight": ("s = MatMul(a, v)  y = Relu(s)", False),
    "added": ("s = Add(x, a)  y = Relu(s)", False),
    "on the right": ("t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul(t, a)", False),
}


@pytest.mark.parametrize("use", LINKS)
def test_a_square_that_is_multiplied_with_features_holds_links(use: str) -> None:
    body, linked = LINKS[use]
    proto = onnx_text(
        f"g (float[1, 12, 12] x, float[1, 12, 12] a) => (y) {{ {body} }}",
        w=np.ones((12, 4), np.float32),
        v=np.ones((12, 4), np.float32),
        last=np.asarray([-1]),
    )
    model = as_model(proto)
    links = input_samples(model, model.inputs[1], InputScale(), 0)
    assert (set(np.unique(links)) == {0.0, 1.0}) == linked
    if linked:
        assert links.shape[1:] == (1, 12, 12) and links.sum(axis=-1).mean() == pytest.approx(3, abs=0.2)
