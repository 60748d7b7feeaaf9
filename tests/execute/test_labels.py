"""Labels in every form, and errors that say which line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.labels import read_labels
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import ArraySource

ARRAYS = ArraySource("a.npz", {"x": np.zeros((3, 1))})


def images(*names: str) -> ImageFolder:
    return ImageFolder(Path("photos"), [Path("photos") / name for name in names], preset("raw"))


@pytest.mark.parametrize(
    "text",
    [
        "b.jpg,7\na.jpg,3\n",
        "file,class_index,wnid\na.jpg,3,n01\nb.jpg,7,n02\n",
        "a.jpg\t3\n\nb.jpg\t7\n",
        "a.jpg 3\nb.jpg 7\n",
        "3\n7\n",
    ],
)
def test_every_form_gives_the_classes_in_the_order_of_the_images(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    assert list(read_labels(path, images("a.jpg", "b.jpg"))) == [3, 7]


def test_an_array_goes_by_the_order_of_the_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([5, 1, 2]))
    assert list(read_labels(tmp_path / "l.npy", ARRAYS)) == [5, 1, 2]
    np.save(tmp_path / "l.npy", np.array([0.5]))
    with pytest.raises(DataError, match="one class index a sample"):
        read_labels(tmp_path / "l.npy", ARRAYS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jpg,3\n", "has no line for 'b.jpg'"),
        ("a.jpg,3\nb.jpg,dog\n", "line 2 is not"),
        ("", "holds no lines"),
        ("a.jpg,3\n4\n", "some lines have a file name"),
    ],
)
def test_errors_name_the_line_or_the_image(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_labels(path, images("a.jpg", "b.jpg"))
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", ARRAYS)
