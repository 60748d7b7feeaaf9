"""What the rules about calibration data share: example pictures, and how to name samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from onnxlint_q import DataSummary, ImageSummary, Location

# A network whose first layer has its outputs normalised by what was recorded in training.
RECORDING = """
<ir_version: 8, opset_import: ["" : 17]>
trained (float[N, 3, 32, 32] x) => (float[N, 4, 32, 32] y)
<float[4, 3, 1, 1] w = {1, 0, -1, -1, 0.5, 1, 1, 1, 1, 0, 1, -1},
 float[4] gamma = {1, 1, 1, 1}, float[4] beta = {0, 0, 0, 0}, float[4] mean = {0, 0, 0, 0},
 float[4] var = {1, 1, 1, 1}> {
  c = Conv(x, w)
  y = BatchNormalization(c, gamma, beta, mean, var)
}
"""
_WEIGHT = ((1, 0, -1), (-1, 0.5, 1), (1, 1, 1), (0, 1, -1))
# Neighbouring pixels of photographs correlate by 0.65 and more. Mean and deviation of their colours, in codes.
_SMOOTH = 0.5
_MEAN, _DEVIATION = (124.0, 116.0, 103.0), 58.0


def pictures(random: np.random.Generator, count: int = 32, side: int = 32) -> npt.NDArray[np.float32]:
    """Random pictures `[count, 3, side, side]` of pixels from 0 to 255, smooth and mostly grey as photographs are."""
    total = np.zeros((count, 3, side, side))
    cells = 2
    while cells <= side:
        block = np.ones((side // cells, side // cells))
        grey = random.standard_normal((count, 1, cells, cells))
        colour = 0.25 * random.standard_normal((count, 3, cells, cells))
        total += np.kron(grey + colour, block) / cells
        cells *= 2
    total *= _DEVIATION / total.std()
    return np.asarray(np.clip(np.rint(total + np.reshape(_MEAN, (3, 1, 1))), 0, 255), np.float32)


def recorded(images: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
    """What `RECORDING` would have recorded had it been trained on `images`."""
    seen = np.einsum("oc,nchw->onhw", np.asarray(_WEIGHT), images).reshape(len(_WEIGHT), -1)
    return {"mean": seen.mean(axis=1).astype(np.float32), "var": seen.var(axis=1).astype(np.float32)}


def smooth(image: ImageSummary) -> bool:
    """Whether most samples are pictures, as far as neighbouring pixels tell: what is noise has no right scale."""
    return bool(np.mean(image.correlation > _SMOOTH) > 1 / 2)


def at_input(name: str) -> Location:
    """Where a finding about one input stands."""
    return Location(output=name)


def named(data: DataSummary, indices: Iterable[int], limit: int = 4) -> str:
    """`a.jpg, b.jpg and 3 more`."""
    listed = [data.names[index] for index in indices]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
