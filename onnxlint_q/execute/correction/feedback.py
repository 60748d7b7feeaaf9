"""Codes of a weight that leave less noise in the layer's result than the nearest ones.

Rounding a weight changes the result by `e x`, whose power over samples is `e H e'` with the second moments
`H = E[x x']` of what the layer reads. Weights are rounded one after the other, those that meet the largest inputs
first, and each error is made up for by those that are still free: with the Cholesky factor `U` of `inv(H) = U' U` the
error of weight i moves the later ones by `-e_i / U_ii * U_i` (Frantar et al., GPTQ, arXiv 2210.17323, equations 2 and
3). Scales stay what they are. A channel keeps the nearest codes where they are as good.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.number_formats import Float
from onnxlint_q.rewrite.rounding.grid import WeightGrid

_DAMPING = 0.01
"""What is added to the power of each input, as a fraction of their mean: fewer samples tell less of small ones."""
_TOGETHER = 64
"""Weights of a channel whose errors the rest is told of in one product of matrices."""


def steps_with_feedback(matrix: Float, grid: WeightGrid, moments: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """How many steps the codes that make up for each other are from the nearest ones, as `[output channels, taps]`.

    Args:
        matrix: the weight as `[output channels, taps]`.
        grid: of its codes.
        moments: `[groups, taps, taps]`, the second moments of what it is multiplied by; channels lie group by group.

    Raises:
        numpy.linalg.LinAlgError: the moments have no inverse.
    """
    groups, taps, _ = moments.shape
    power = np.einsum("gii->gi", moments)
    damped = moments + np.eye(taps) * np.maximum(_DAMPING * power.mean(axis=1), 1e-30)[:, None, None]
    order = np.argsort(-power, axis=1, kind="stable")
    sorted_moments = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None, :], 2)
    factor = np.linalg.cholesky(np.linalg.inv(sorted_moments)).transpose(0, 2, 1)

    def by_tap(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """`[groups, taps, channels]`, the taps in the order in which they are rounded."""
        whole = np.broadcast_to(values, matrix.shape).reshape(groups, -1, taps).transpose(0, 2, 1)
        return np.take_along_axis(whole, order[:, :, None], 1).astype(np.float64)

    nearest = grid.nearest(matrix)
    exact, scale, zero = by_tap(matrix), by_tap(grid.scale), by_tap(grid.zero)
    lowest, highest, fixed = by_tap(grid.lowest), by_tap(grid.highest), by_tap(grid.fixed) > 0
    near, wanted, codes = by_tap(nearest), exact.copy(), np.empty_like(exact)
    for start in range(0, taps, _TOGETHER):
        end = min(start + _TOGETHER, taps)
        errors = np.empty((groups, end - start, exact.shape[2]))
        for tap in range(start, end):
            code = np.clip(np.rint(wanted[:, tap] / scale[:, tap] + zero[:, tap]), lowest[:, tap], highest[:, tap])
            code = np.where(fixed[:, tap], near[:, tap], code)
            codes[:, tap] = code
            value = np.where(fixed[:, tap], exact[:, tap], (code - zero[:, tap]) * scale[:, tap])
            error = (wanted[:, tap] - value) / factor[:, tap, tap, None]
            errors[:, tap - start] = error
            wanted[:, tap + 1 : end] -= factor[:, tap, tap + 1 : end, None] * error[:, None]
        wanted[:, end:] -= factor[:, start:end, end:].transpose(0, 2, 1) @ errors

    def noise(of: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Power of the error in the result, `[groups, channels]`."""
        error = np.where(fixed, 0.0, (of - zero) * scale - exact)
        return np.asarray((error * (sorted_moments @ error)).sum(axis=1))

    moved = codes - near
    better = (noise(codes) < noise(near)) & (np.abs(moved).max(axis=1) <= np.iinfo(np.int8).max)
    moved = np.where(better[:, None], moved, 0.0)
    back = np.take_along_axis(moved, np.argsort(order, axis=1)[:, :, None], 1)
    return np.asarray(back.transpose(0, 2, 1).reshape(matrix.shape), np.int8)
