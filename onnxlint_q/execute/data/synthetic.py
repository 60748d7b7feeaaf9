"""Inputs with plausible statistics where there is no data.

What an input holds is told by `analysis.inputs`. Images are pictures like photographs, busy on one side and simple on
the other (module `pictures`), at the scale that the model's first layer was trained for, as far as the file tells.
Waveforms and spectra are of sounds like speech and music (module `sounds`). Tokens are drawn from the whole vocabulary,
all alike; masks let every position count, and in every other sample the last quarter of them is padding, as in a batch
of texts of different length; a state is what the model gave for the sample before, and zero in the first. What the file
tells nothing of is standard normal noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from onnxlint_q.analysis.image.inputs import channels_last, is_image
from onnxlint_q.analysis.inputs.contents import Content, Kind
from onnxlint_q.analysis.sizes.usual import OPEN_SIDE
from onnxlint_q.execute.data.made_up.pictures import two_scenes
from onnxlint_q.execute.data.made_up.sounds import recording, spectra
from onnxlint_q.execute.data.source import Array, Sample, Source, dtype_of
from onnxlint_q.execute.data.sources import RandomSource
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.forecast.inputs.prior import InputScale
from onnxlint_q.graph import Value

Advance = Callable[[Sample], Mapping[str, Array]]
"""Outputs of the model for a sample, by name."""
_SEED = 0
# Chunks of one recording that follow each other.
_CHUNKS = 8


@dataclass(frozen=True, eq=False)
class Contents:
    """What the inputs of a model hold.

    Attributes:
        by_input: that, by name; an input that is not named holds an image where it has the shape of one, else noise.
        scale: of images.
        advance: runs the model, for the next state; None where there is none.
    """

    by_input: Mapping[str, Content] = field(default_factory=dict)
    scale: InputScale = field(default_factory=InputScale)
    advance: Advance | None = None

    def of(self, value: Value) -> Content:
        """What one input holds."""
        known = self.by_input.get(value.name)
        return known or Content(Kind.IMAGE if is_image(value.type.shape) else Kind.OTHER)


class SyntheticSource(Source):
    """Endless seeded samples."""

    name = "synthetic inputs"
    preprocessing = "textured dead leaves at the scale of the first layer, other inputs by what they hold, seed 0"
    synthetic = True

    def __init__(self, contents: Contents, seed: int = _SEED, limits: Limits = DEFAULT_LIMITS) -> None:
        """Samples for inputs that hold `contents`; they are kept as far as `limits` has room for them."""
        self.contents = contents
        self.seed = seed
        self.limits = limits
        self._inputs: tuple[Value, ...] | None = None
        self._kept: list[Sample] = []
        self._next: Iterator[Sample] = iter(())

    def shapes(self, inputs: Sequence[Value]) -> Mapping[str, tuple[int, ...]]:
        """They fit anything."""
        return {}

    def shapes_made(self, inputs: Sequence[Value]) -> Mapping[str, tuple[int, ...]]:
        """Those of the samples that are made to fit."""
        return {name: array.shape for name, array in next(self.samples(inputs)).items()}

    def available(self, inputs: Sequence[Value], enough: int = 0) -> None:
        """There is no end."""

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """Samples without end, the same ones in every pass."""
        if self._inputs != tuple(inputs):
            self._inputs, self._kept, self._next = tuple(inputs), [], self._made(inputs)
        kept, following, room = self._kept, self._next, self.limits.kept_bytes
        number = 0
        while number < len(kept) or _bytes(kept[:1]) * (len(kept) + 1) <= room:
            if number == len(kept):
                kept.append(next(following))
            yield kept[number]
            number += 1
        yield from islice(self._made(inputs), number, None)

    def _made(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        generator = np.random.default_rng(self.seed)
        contents = {value.name: self.contents.of(value) for value in inputs}
        sounds = {
            value.name: _chunks(value, contents[value.name].kind, generator)
            for value in inputs
            if contents[value.name].kind in {Kind.WAVEFORM, Kind.SPECTRUM}
        }
        states: Mapping[str, Array] = {}
        for number, noise in enumerate(RandomSource().samples(inputs)):
            sample = dict(noise)
            for value in inputs:
                shape, content = noise[value.name].shape, contents[value.name]
                made: Array | None
                if value.name in sounds:
                    made = next(sounds[value.name])
                elif content.kind is Kind.IMAGE:
                    made = self._image(value, generator)
                elif content.kind is Kind.STATE and content.output:
                    made = _fitting(states.get(content.output), shape)
                else:
                    made = _filled(content, shape, noise, generator, padded=number % 2 == 1)
                if made is not None:
                    sample[value.name] = np.asarray(made, dtype_of(value), order="C")
            yield sample
            if self.contents.advance is not None:
                states = self.contents.advance(sample)

    def _image(self, value: Value, generator: np.random.Generator) -> Array:
        shape = value.taken or value.type.shape or ()
        last = channels_last(shape)
        channels, height, width = (shape[3], shape[1], shape[2]) if last else (shape[1], shape[2], shape[3])
        scale, images = self.contents.scale, []
        for _ in range(shape[0] or 1):
            scenes = two_scenes(channels or 3, height or OPEN_SIDE, width or OPEN_SIDE, generator)
            image = scenes * scale.deviation + scale.mean
            images.append(image.transpose(1, 2, 0) if last else image)
        return np.stack(images)


def _fitting(state: Array | None, shape: tuple[int, ...]) -> Array:
    """A state as the model takes it: zero before the first sample, and where it comes out in another shape."""
    return np.zeros(shape) if state is None or state.shape != shape else state


def _filled(
    content: Content, shape: tuple[int, ...], noise: Sample, generator: np.random.Generator, *, padded: bool
) -> Array | None:
    """Values for an input that is no signal; None where noise will do."""
    match content.kind:
        case Kind.TOKENS:
            return generator.integers(0, content.rows, shape)
        case Kind.TYPES:
            return np.zeros(shape)
        case Kind.POSITIONS:
            return np.broadcast_to(np.arange(shape[-1] if shape else 1) % content.rows, shape)
        case Kind.MASK:
            mask = np.full(shape, content.value)
            if padded and content.meetings and shape:
                mask[..., shape[-1] - shape[-1] // 4 :] = 1 - content.value
            return mask
        case Kind.CHOICE:
            return np.full(shape, content.value)
        case Kind.LENGTH:
            return np.full(shape, max((other.shape[-1] for other in noise.values() if other.ndim > 1), default=1))
        case _:
            return None


def _chunks(value: Value, kind: Kind, generator: np.random.Generator) -> Iterator[Array]:
    """Pieces of recordings, one after the other."""
    shape = value.taken or tuple(dim or 1 for dim in value.type.shape or ())
    while True:
        if kind is Kind.SPECTRUM:
            yield from spectra(shape, _CHUNKS, generator)
        else:
            yield from recording(_CHUNKS * int(np.prod(shape)), generator).reshape(_CHUNKS, *shape)


def _bytes(samples: Sequence[Sample]) -> int:
    return sum(array.nbytes for sample in samples for array in sample.values())
