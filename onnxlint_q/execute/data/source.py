"""What gives calibration samples one at a time, and the form in which a model takes them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.errors import DataError
from onnxlint_q.graph import Value

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]


class Source(ABC):
    """Where samples come from. Can be read several times and gives the same samples each time.

    Attributes:
        name: what reports call it.
        preprocessing: what is done to each sample, in words.
        options: what asks for that on the command line, beside the source.
        synthetic: values are made up.
    """

    name: str
    preprocessing: str = "arrays as they are"
    options: tuple[str, ...] = ()
    synthetic: bool = False

    @abstractmethod
    def available(self, inputs: Sequence[Value], enough: int = 0) -> int | None:
        """How many samples of `inputs` there are; None if there is no end.

        Where they have to be read to be counted, it may be fewer than there are, but not fewer than `enough`.

        Raises:
            DataError: the data does not fit.
        """

    def shapes(self, inputs: Sequence[Value]) -> Mapping[str, tuple[int, ...]]:
        """Shapes that the data itself gives the inputs, as of the first sample; empty where it is made to fit them.

        Raises:
            DataError: as `samples`.
        """
        return {name: array.shape for sample in self.take(inputs, 1) for name, array in sample.items()}

    def prepared(self, inputs: Sequence[Value]) -> str:
        """What is done to each sample, for a model with these inputs."""
        return self.preprocessing

    @abstractmethod
    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """Samples that fit `inputs`, by input name.

        Raises:
            DataError: one cannot be read or does not fit.
        """

    def sample_name(self, index: int) -> str:
        """What to call a sample in a message."""
        return f"sample {index}"

    def take(self, inputs: Sequence[Value], count: int, skip: int = 0) -> Iterator[Sample]:
        """At most `count` samples after the first `skip`."""
        return itertools.islice(self.samples(inputs), skip, skip + count)

    def pick(self, inputs: Sequence[Value], numbers: Sequence[int]) -> Iterator[Sample]:
        """The samples of these ascending numbers."""
        wanted = set(numbers)
        last = max(wanted, default=-1)
        return (s for number, s in enumerate(self.take(inputs, last + 1)) if number in wanted)


def dtype_of(value: Value) -> np.dtype[Any]:
    """The numpy type of an input.

    Raises:
        DataError: it has none, as strings and sequences.
    """
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.elem_type))
    except KeyError as error:
        raise DataError(f"input {value.name!r} is not a tensor of numbers; it cannot be calibrated") from error
    if dtype.kind == "O":
        raise DataError(f"input {value.name!r} is a tensor of strings; it cannot be calibrated")
    return dtype
