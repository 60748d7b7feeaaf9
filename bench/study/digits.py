"""The data: scikit-learn's 1797 handwritten digits of 8 x 8 grey levels, upsampled to 16 x 16, in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .networks import SIDE

Images = npt.NDArray[np.float32]
SEED = 20210424
TEST = 597


@dataclass(frozen=True, eq=False)
class Digits:
    """Images as `[N, 1, 16, 16]`, labels as `[N]`."""

    train: Images
    train_labels: npt.NDArray[np.int64]
    test: Images
    test_labels: npt.NDArray[np.int64]

    def calibration(self, trial: int, size: int) -> Images:
        """The training images that trial number `trial` takes its ranges from; trials share none."""
        order = np.random.default_rng(SEED).permutation(len(self.train))
        chosen = order[trial * size : (trial + 1) * size]
        if len(chosen) < size:
            raise ValueError(f"trial {trial} needs {size} training images of its own, {len(chosen)} are left")
        return self.train[chosen]


def load_digits() -> Digits:
    """The images, shuffled with a fixed seed and split into 1200 to train on and 597 to test on."""
    from sklearn.datasets import load_digits as read  # noqa: PLC0415  # only the trainer needs scikit-learn

    raw = read()
    order = np.random.default_rng(SEED).permutation(len(raw.images))
    images = upsample(np.asarray(raw.images[order] / 16, np.float32))[:, None]
    labels = np.asarray(raw.target, np.int64)[order]
    return Digits(images[:-TEST], labels[:-TEST], images[-TEST:], labels[-TEST:])


def upsample(images: Images) -> Images:
    """Bilinear, half-pixel centres, from `[N, 8, 8]` to `[N, 16, 16]`."""
    size = images.shape[-1]
    where = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    low = np.floor(where).astype(int)
    weights = np.zeros((SIDE, size), np.float32)
    weights[np.arange(SIDE), low] = 1 - (where - low)
    weights[np.arange(SIDE), np.minimum(low + 1, size - 1)] += where - low
    return np.asarray(weights @ images @ weights.T, np.float32)
