"""What counts as an image, and which layers read one."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.image.inputs import channels_last, is_image, reads_image
from onnxlint_q.analysis.image.stem import find_stem
from onnxlint_q.graph import find_layers

WEIGHT = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "image", "last"),
    [
        ((1, 3, 32, 32), True, False),
        ((None, 32, 32, 3), True, True),
        ((1, None, None, None), True, False),
        ((1, 1, 28, 28), True, False),
        ((1, 4, 64, 64), True, False),
        ((1, 64, 64, 4), True, True),
        ((1, 16, 32, 32), False, False),
    ],
)
def test_an_image_has_colours(shape: tuple[int | None, ...], image: bool, last: bool) -> None:
    assert is_image(shape) is image
    assert channels_last(shape) is last


@pytest.mark.parametrize("shape", [None, (1, 3), (1, 3, 32), (1, 3, 8, 32, 32)])
def test_nothing_else_than_four_axes_is_an_image(shape: tuple[int, ...] | None) -> None:
    assert not is_image(shape)


CASES = {
    "at once": ("float[1, 3, 8, 8] x", "y = Conv(x, w)", True),
    "moved": (
        "float[1, 8, 8, 3] x",
        "a = Cast <to = 1> (x) b = Transpose <perm = [0, 3, 1, 2]> (a) y = Conv(b, w)",
        True,
    ),
    "twelve moves": (
        "float[1, 3, 8, 8] x",
        " ".join(f"t{n} = Identity({f't{n - 1}' if n else 'x'})" for n in range(12)) + " y = Conv(t11, w)",
        True,
    ),
    "joined": ("float[1, 1, 8, 8] x, float[1, 1, 8, 8] z", "a = Concat <axis = 1> (x, z, x) y = Conv(a, w)", True),
    "joined with what is computed": (
        "float[1, 1, 8, 8] x",
        "s = Sqrt(x) a = Concat <axis = 1> (x, s, x) y = Conv(a, w)",
        False,
    ),
    "computed": ("float[1, 3, 8, 8] x", "a = Sqrt(x) y = Conv(a, w)", False),
    "of a sequence": ("float[1, 3, 8] x", "y = Conv(x, short)", False),
    "of something with 16 channels": ("float[1, 16, 8, 8] x", "y = Conv(x, many)", False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_reads_an_image_through_moves(case: str) -> None:
    inputs, nodes, expected = CASES[case]
    constants = {"w": WEIGHT, "short": WEIGHT[..., 0], "many": np.zeros((5, 16, 3, 3), np.float32)}
    used = {key: value for key, value in constants.items() if f", {key})" in nodes}
    model = as_model(onnx_text(f"g ({inputs}) => (y) {{ {nodes} }}", **used))
    (layer,) = find_layers(model)
    assert reads_image(model, layer) is expected
    if not expected:
        assert find_stem(model, fold_batch_norms(model, [layer]).layers) is None


def test_ways_that_double_are_looked_at_once() -> None:
    """Each of 30 Concat joins its input with itself; the stem has as many channels as it may, and no more."""
    steps = [f"t{n + 1} = Concat <axis = 1> ({f't{n}' if n else 'x'}, {f't{n}' if n else 'x'})" for n in range(30)]
    text = f"g (float[1, 3, 8, 8] x) => (y) {{ {' '.join(steps)} s = Slice(t30, begin, end, axis) y = Conv(s, w) }}"
    bounds = {"begin": np.zeros(1, np.int64), "end": np.full(1, 3, np.int64), "axis": np.ones(1, np.int64)}
    model = as_model(onnx_text(text, w=WEIGHT, **bounds))
    (layer,) = find_layers(model)
    assert reads_image(model, layer)
    assert find_stem(model, fold_batch_norms(model, [layer]).layers) is None
