"""The values that a quantiser can store for a weight, and what it has to find there so that its grid stays the same.

A quantiser takes its scale from the values of largest magnitude, a block-wise one with a zero point from the smallest
and the largest of a block. These stay what they are. Every other value may move to any value of the grid that does not
take their place: the quantiser then finds the same scale, and the code that was meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.number_formats import Float, NumberFormat, Sharing, weight_scale


@dataclass(frozen=True, eq=False)
class WeightGrid:
    """The grid of a weight that is seen as `[output channels, taps]`; each array broadcasts against that.

    Attributes:
        scale: one step; negative where the quantiser makes it so.
        zero: the code of zero.
        lowest, highest: the codes that a value may have.
        fixed: values that the scale comes from.
    """

    scale: Float
    zero: Float
    lowest: Float
    highest: Float
    fixed: npt.NDArray[np.bool_]

    def nearest(self, matrix: Float) -> Float:
        """The code of each value that is nearest to it."""
        return np.asarray(np.clip(np.rint(matrix / self.scale + self.zero), self.lowest, self.highest), np.float32)

    def values(self, codes: Float, matrix: Float) -> Float:
        """The values of codes; those that the scale comes from are as they were in `matrix`."""
        return np.asarray(np.where(self.fixed, matrix, (codes - self.zero) * self.scale), np.float32)


def weight_grid(matrix: Float, number: NumberFormat, sharing: Sharing) -> WeightGrid:
    """The grid that ONNX Runtime's quantiser finds for a weight with finite values.

    Args:
        matrix: the weight as `[output channels, taps]`.
        number: format of the codes, which are integers.
        sharing: which values of the matrix share a scale.
    """
    if sharing.block_size:
        return _by_blocks(matrix, number, sharing.block_size)
    zero, low, high = (np.asarray(code, np.float32) for code in (0, number.lowest, number.largest))
    fixed = np.abs(matrix) == sharing.largest(matrix)
    return WeightGrid(weight_scale(matrix, number, sharing), zero, low, high, fixed)


def _by_blocks(matrix: Float, number: NumberFormat, size: int) -> WeightGrid:
    """The grid of `number_formats.block_round_trip`."""
    starts = np.arange(0, matrix.shape[1], size)
    block = np.arange(matrix.shape[1]) // size
    low = np.minimum.reduceat(matrix, starts, axis=1)[:, block]
    high = np.maximum.reduceat(matrix, starts, axis=1)[:, block]
    levels = np.float32(2**number.bits)
    if number.symmetric:
        extreme = np.where(np.abs(high) > np.abs(low), high, low)
        scale, zero, fixed = extreme / (-levels / 2), np.full_like(low, levels / 2), matrix == extreme
        lowest, highest = np.zeros_like(low), np.full_like(low, levels - 1)
    else:
        fixed = (matrix == low) | (matrix == high)
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = (high - low) / (levels - 1)
        step = np.asarray(np.where(scale != 0, scale, 1), np.float32)
        zero = np.clip(np.floor(-low / step + np.float32(0.5)), 0, levels - 1)
        lowest, highest = np.ceil(low / step + zero), np.floor(high / step + zero)
        lowest, highest = np.clip(lowest, 0, levels - 1), np.clip(highest, 0, levels - 1)
    step = np.asarray(np.where(scale != 0, scale, 1), np.float32)
    return WeightGrid(step, zero, lowest, highest, fixed)
