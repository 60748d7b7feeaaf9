"""Which channels are outliers, and which tensors share them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxlint_q.analysis.causes.outlier_channels import Outliers, outlier_channels, sharing
from onnxlint_q.analysis.observed.observations import ChannelObservation


def seen(*wide: float, channels: int = 64) -> ChannelObservation:
    high = np.ones(channels)
    high[: len(wide)] = wide
    return ChannelObservation(-high, high)


@pytest.mark.parametrize(
    ("wide", "found"),
    [
        ((), None),
        ((15.0,), None),
        ((17.0,), (0,)),
        ((60.0, 90.0), (1, 0)),
        ((60.0,) * 4, (0, 1, 2, 3)),
        ((60.0,) * 5, None),
    ],
    ids=["alike", "narrow", "one", "two, the widest first", "a sixteenth", "more than a sixteenth"],
)
def test_a_few_channels_that_make_the_range(wide: tuple[float, ...], found: tuple[int, ...] | None) -> None:
    outliers = outlier_channels(seen(*wide), 16.0)
    assert (outliers.channels if outliers is not None else None) == found
    if outliers is not None:
        assert outliers.size == 64 and outliers.ratio == pytest.approx(max(wide))


@pytest.mark.parametrize("end", [np.inf, np.nan])
def test_channels_without_an_end_are_none(end: float) -> None:
    assert outlier_channels(seen(end), 16.0) is None


def test_tensors_that_share_channels_are_one_group() -> None:
    def outliers(*indices: int, size: int = 64) -> Outliers:
        return Outliers(indices, 30.0, 9.0, size)

    found = {
        "first": outliers(3),
        "alone": outliers(5, 3),
        "second": outliers(3, 9),
        "elsewhere": outliers(3, size=128),
        "third": outliers(9, 3),
        "fourth": outliers(9),
    }
    assert list(sharing(found)) == [("first", "second", "third", "fourth"), ("alone",), ("elsewhere",)]
