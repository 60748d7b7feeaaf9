"""The data is divided once: every sample serves ranges or the verdict, and none both, unless there is but one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import as_model, onnx_text

from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import ArraySource, RandomSource, open_source
from onnxlint_q.execute.data.split import split

INPUTS = as_model(onnx_text("agraph (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }")).inputs


def numbered(count: int) -> ArraySource:
    return ArraySource("numbers", {"x": np.arange(count, dtype=np.float32)[:, None].repeat(2, axis=1)})


@given(st.integers(2, 200), st.integers(1, 120))
def test_no_sample_serves_both(available: int, count: int) -> None:
    parts = split(numbered(available), INPUTS, count)
    first, second = ([int(sample["x"][0, 0]) for sample in part()] for part in (parts.for_ranges, parts.for_verdict))
    assert len(first) == parts.calibrating == min(count, (available + 1) // 2)
    assert len(second) == parts.held_out == min(count, available - len(first))
    assert first + second == list(range(len(first) + len(second)))
    assert parts.held_out > 0 and parts.first_of_verdict == second[0]


def test_the_one_sample_there_is_has_to_serve_both() -> None:
    parts = split(numbered(1), INPUTS, 32)
    assert (parts.calibrating, parts.held_out, parts.first_of_verdict) == (1, 0, 0)
    assert len(list(parts.for_ranges())) == len(list(parts.for_verdict())) == 1


def test_no_verdict_needs_nothing_held_out() -> None:
    parts = split(numbered(20), INPUTS, 32, judged=False)
    assert (parts.calibrating, parts.held_out) == (20, 0)


def test_noise_has_no_end() -> None:
    parts = split(RandomSource(), INPUTS, 7)
    assert (parts.calibrating, parts.held_out) == (7, 7)
    assert not np.array_equal(next(parts.for_ranges())["x"], next(parts.for_verdict())["x"])


@pytest.mark.parametrize(
    ("sizes", "count", "parts"), [((30,), 8, (8, 8)), ((3, 4, 2), 32, (5, 4)), ((5, 1), 3, (3, 3))]
)
def test_a_folder_of_arrays_is_counted_in_samples(
    tmp_path: Path, sizes: tuple[int, ...], count: int, parts: tuple[int, int]
) -> None:
    for number, size in enumerate(sizes):
        np.savez(tmp_path / f"{number}.npz", x=np.zeros((size, 2), np.float32))
    found = split(open_source(str(tmp_path), PRESETS["raw"]), INPUTS, count)
    assert (found.calibrating, found.held_out) == parts


def test_no_more_files_are_read_than_have_to_be_counted(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 2), np.float32))
    (tmp_path / "b.npz").write_bytes(b"no archive")
    source = open_source(str(tmp_path), PRESETS["raw"])
    assert split(source, INPUTS, 4).held_out == 4
    with pytest.raises(DataError, match=r"b\.npz"):
        split(source, INPUTS, 5)


@given(st.integers(2, 200), st.integers(1, 60), st.integers(1, 60), st.integers(1, 10))
def test_a_search_takes_samples_behind_both_parts_or_else_those_for_ranges(
    available: int, count: int, most: int, fewest: int
) -> None:
    parts = split(numbered(available), INPUTS, count).with_search(most, fewest)
    searched, fitted = ([int(sample["x"][0, 0]) for sample in part()] for part in (parts.for_search, parts.for_fitting))
    assert fitted == list(range(min(most, parts.calibrating)))
    left = available - parts.used
    apart = list(range(parts.used, parts.used + min(most, left)))
    assert searched == (apart if left >= min(fewest, most) else fitted)
    decided = [int(sample["x"][0, 0]) for sample in parts.for_decision()]
    assert not set(decided) & set(fitted)
