"""What each sample's outputs are compared with, positions left out that a mask of the sample rules out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.analysis.outputs.padding import PaddingMask, find_padding
from onnxlint_q.execute.executable import as_stored, up_to
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.variants.output_error import Reference
from onnxlint_q.graph import Model

Array = npt.NDArray[Any]


class References:
    """Makes the reference of each sample of one model.

    Args:
        model: the float model.
        outputs: what is compared: outputs of it, or other tensors, in which no position is left out.
        limits: of the runs that read masks.
    """

    def __init__(self, model: Model, outputs: Sequence[Output], limits: Limits = DEFAULT_LIMITS) -> None:
        self._outputs = tuple(outputs)
        places = {output.name: index for index, output in enumerate(outputs)}
        self._masks = find_padding(model) if places.keys() & model.output_names else ()
        self._axes = [
            [(places[name], axis) for name, axes in mask.axes.items() if name in places for axis in axes]
            for mask in self._masks
        ]
        self._session: Session | None = None
        if self._masks:
            executable, self._inputs = up_to(as_stored(model), [mask.tensor for mask in self._masks])
            try:
                self._session = Session(executable, 1, limits)
            except NotRunnableError:  # without shapes of its own the part may not load; then every position counts
                self._session = None

    def of(self, sample: Mapping[str, Array], values: Sequence[Array]) -> Reference:
        """The reference of one sample, whose outputs have these values.

        Raises:
            NotRunnableError: a mask cannot be computed.
        """
        if self._session is None:
            return Reference(values, self._outputs)
        made = self._session.run({name: sample[name] for name in self._inputs})
        kept: dict[int, npt.NDArray[np.bool_]] = {}
        for mask, axes, found in zip(self._masks, self._axes, made, strict=True):
            for index, axis in axes:
                spread = _spread(mask, found, axis, values[index].shape)
                if spread is not None:
                    kept[index] = kept[index] & spread if index in kept else spread
        return Reference(values, self._outputs, {index: counts for index, counts in kept.items() if not counts.all()})


def _spread(mask: PaddingMask, values: Array, axis: int, shape: Sequence[int]) -> npt.NDArray[np.bool_] | None:
    """Which values of an output of this shape count, along one axis of it; None where the mask has other sizes."""
    counts = mask.kept(values)
    rows, places = counts.shape
    if axis >= len(shape) or shape[axis] != places or rows not in {1, shape[0]}:
        return None
    return counts.reshape([rows, *(places if other == axis else 1 for other in range(1, len(shape)))])
