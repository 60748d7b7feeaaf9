"""What inputs hold, told by shape, type and first operators."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.inputs.contents import Content, Kind, find_contents, told
from onnxlint_q.execute.data.made_up.unmasking import unmasked
from onnxlint_q.execute.data.sources import RandomSource
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.graph import Model

Array = npt.NDArray[Any]
_RANDOM = np.random.default_rng(0)


def _model(body: str, **constants: Array) -> Model:
    return as_model(onnx_text(body, **constants))


def _words(rows: int, width: int = 8) -> Array:
    return _RANDOM.standard_normal((rows, width)).astype(np.float32)


def _positions(rows: int, width: int = 8) -> Array:
    angles = np.arange(rows)[:, None] / 10 ** np.linspace(0.5, 1.5, width)[None]
    return np.sin(angles).astype(np.float32)


def _samples(model: Model, count: int = 2) -> list[dict[str, Array]]:
    found = unmasked(model, find_contents(model), next(RandomSource().samples(model.inputs)))
    return [dict(sample) for sample in SyntheticSource(Contents(found)).take(model.inputs, count)]


def test_tables_tell_tokens_types_and_positions() -> None:
    model = _model(
        "agraph (int64[1, 6] a, int64[1, 6] b, int64[1, 6] c) => (y) "
        "{ p = Gather(w, a)\n q = Gather(t, b)\n r = Gather(v, c)\n s = Add(p, q)\n y = Add(s, r) }",
        w=_words(64),
        t=_words(2),
        v=_positions(64),
    )
    found = find_contents(model)
    assert [found[name].kind for name in "abc"] == [Kind.TOKENS, Kind.TYPES, Kind.POSITIONS]
    (sample, _) = _samples(model)
    assert found["a"].rows == 64 and sample["a"].max() < 64 and len(set(sample["a"].ravel())) > 2
    assert not sample["b"].any() and sample["c"].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert list(told({"a": found["a"], "c": found["c"]})) == [
        "input 'a' taken for tokens",
        "input 'c' taken for positions",
    ]


def test_the_only_table_is_one_of_tokens_however_its_rows_lie() -> None:
    model = _model("agraph (int64[1, 6] a) => (y) { y = Gather(v, a) }", v=_positions(64))
    assert find_contents(model)["a"] == Content(Kind.TOKENS, 64)


def test_numbers_that_choose_from_two_tables_lie_in_both() -> None:
    model = _model(
        "agraph (int64[1, 2, 6] a) => (y) "
        "{ c = Gather <axis = 1> (a, one)\n p = Gather(w, c)\n d = Gather <axis = 1> (a, zero)\n q = Gather(v, d)\n"
        " y = Add(p, q) }",
        w=_words(64),
        v=_words(30),
        zero=np.asarray(0, np.int64),
        one=np.asarray(1, np.int64),
    )
    assert find_contents(model)["a"].rows == 30


def test_a_lookup_that_is_spelt_out() -> None:
    model = _model(
        "agraph (int32[1, 6] a) => (y) "
        "{ i = Unsqueeze(a, last)\n e = Equal(i, all)\n f = Cast <to = 1> (e)\n y = MatMul(f, w) }",
        last=np.asarray([2], np.int64),
        all=np.arange(32, dtype=np.int32)[None, None],
        w=_words(32),
    )
    assert find_contents(model)["a"] == Content(Kind.TOKENS, 32)


_ATTENTION = (
    "agraph (float[1, 8, 4] x, {type}[1, 8] m) => (y) {{ k = MatMul(x, w)\n t = Transpose <perm = [0, 2, 1]> (k)\n"
    "s = MatMul(x, t)\n u = Unsqueeze(m, one)\n {mask}\n p = Softmax <axis = -1> (z)\n y = MatMul(p, x) }}"
)


@pytest.mark.parametrize(
    ("kind", "mask", "keeps"),
    [
        ("int64", "c = Cast <to = 1> (u)\n d = Sub(unit, c)\n e = Mul(d, low)\n z = Add(s, e)", 1),
        ("bool", "z = Where(u, low, s)", 0),
        ("bool", "n = Not(u)\n z = Where(n, low, s)", 1),
        ("bool", "n = Where(u, low, nothing)\n z = Add(s, n)", 0),
        ("float", "d = Sub(unit, u)\n e = Mul(d, low)\n z = Add(s, e)", 1),
    ],
)
def test_masks_let_positions_count_whatever_their_sense(kind: str, mask: str, keeps: int) -> None:
    constants = {"one": np.asarray([1], np.int64), "w": _words(4, 4), "low": np.asarray(-1e9, np.float32)}
    constants |= {"unit": np.asarray(1, np.float32), "nothing": np.asarray(0, np.float32)}
    body = _ATTENTION.format(type=kind, mask=mask)
    used = {name: value for name, value in constants.items() if re.search(rf"\b{name}\b[,)]", body)}
    model = _model(body, **used)
    assert find_contents(model)["m"].kind is Kind.MASK
    whole, padded = (sample["m"].astype(int).ravel().tolist() for sample in _samples(model))
    assert whole == [keeps] * 8 and padded == [keeps] * 6 + [1 - keeps] * 2


def test_a_float_that_is_added_is_no_mask() -> None:
    model = _model("agraph (float[1, 8] x, float[1, 8] m) => (y) { a = MatMul(x, w)\n y = Add(a, m) }", w=_words(8))
    assert find_contents(model)["m"].kind is Kind.OTHER


def test_a_choice_is_what_it_is_compared_with() -> None:
    model = _model(
        "agraph (float[1, 8] x, int64 rate) => (y) { e = Equal(rate, k)\n c = Cast <to = 1> (e)\n y = Mul(x, c) }",
        k=np.asarray(16000, np.int64),
    )
    assert find_contents(model)["rate"].kind is Kind.CHOICE
    assert int(_samples(model)[0]["rate"]) == 16000


def test_a_state_is_what_came_out_for_the_sample_before() -> None:
    model = _model(
        "agraph (float[1, 1, 4] x, float[1, 1, 3] h) => (float[1, 1, 3] y, float[1, 1, 3] n) "
        "{ y, n = GRU <hidden_size = 3> (x, w, r, , , h) }",
        w=_RANDOM.standard_normal((1, 9, 4)).astype(np.float32),
        r=_RANDOM.standard_normal((1, 9, 3)).astype(np.float32),
    )
    content = find_contents(model)["h"]
    assert content.kind is Kind.STATE and content.output in {"y", "n"}
    given = {"y": np.full((1, 1, 3), 0.5, np.float32), "n": np.full((1, 1, 3), 0.5, np.float32)}
    source = SyntheticSource(Contents(find_contents(model), advance=lambda _: given))
    first, second = (sample["h"] for sample in source.take(model.inputs, 2))
    assert not first.any() and (second == 0.5).all()


def test_waveforms_are_filtered_and_features_are_not() -> None:
    wave = _model(
        "agraph (float[1, 1, 1024] x) => (y) { y = Conv(x, w) }",
        w=_RANDOM.standard_normal((4, 1, 64)).astype(np.float32),
    )
    assert find_contents(wave)["x"].kind is Kind.WAVEFORM
    (first, second) = (sample["x"] for sample in _samples(wave))
    assert first.shape == (1, 1, 1024) and 0 < np.abs(first).max() <= 1 and not np.array_equal(first, second)
    features = _model("agraph (float[1, 512] x) => (y) { y = MatMul(x, w) }", w=_words(512))
    assert find_contents(features)["x"].kind is Kind.OTHER


@pytest.mark.parametrize(
    ("shape", "signed"), [((1, 1, 257), False), ((1, 257, 5, 2), True), ((1, 2, 40, 129), True), ((1, 129, 40), False)]
)
def test_spectra_have_magnitudes_or_two_parts(shape: tuple[int, ...], signed: bool) -> None:
    sizes = ", ".join(map(str, shape))
    model = _model(f"agraph (float[{sizes}] x) => (y) {{ y = Sqrt(x) }}")
    assert find_contents(model)["x"].kind is Kind.SPECTRUM
    spectrum = _samples(model)[0]["x"]
    assert spectrum.shape == shape and spectrum.std() > 0 and bool((spectrum < 0).any()) is signed


def test_pictures_stay_pictures() -> None:
    model = _model("agraph (float[1, 3, 8, 8] x) => (y) { y = Relu(x) }")
    assert find_contents(model) == {"x": Content(Kind.IMAGE)} and not list(told(find_contents(model)))
